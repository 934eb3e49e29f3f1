//! Services with the workloads behind them and the rules over them.
//!
//! Only one rule for a host takes effect: which one depends on the caller's namespace, the
//! Service's and Istio's own, and within one the most specific name wins. So that all
//! callers do what is planned, a host is ours to write only where no rule names it or one
//! rule in its own namespace, for all callers, does.
//!
//! | what names the host | |
//! | --- | --- |
//! | two rules, wherever they lie | only one takes effect for a caller: not ours |
//! | one, in another namespace | its callers are others than those of the Service: not ours |
//! | one, for some callers only | not ours |
//! | a wildcard alone | one of ours would take its place and lose what else it sets |
//! | a wildcard beside one that we created | the same: what we created has to go |
//!
//! Services without a selector, and what is no Service, are no hosts, unless something of
//! ours stands for them: a Service lost its selector, or went away while somebody's rule
//! that we added to stayed. Nobody follows what stands there, so that it has to be seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use stornx_core::{
    ids::{HostName, ZoneName},
    model::{DefaultSplit, Distribution, ForeignRule, Host, RouteTable, Rule},
};

use super::{
    join::{Entry, Joined},
    places::{Displaced, Old, Regions},
};
use crate::{
    map::{
        namespace_of,
        rule::{RuleRecord, Share},
        selector::TextLabels,
        service::ServiceRecord,
    },
    watch::kinds::Tables,
};

/// The hosts of all Services with a selector, and of what is none any more.
pub(crate) fn hosts(tables: &Tables, joined: &Joined<'_>, regions: &Regions<'_>) -> Vec<Host> {
    let rules = Rules::of(tables);
    let displaced = Displaced::of(tables);
    let old = Old::of(tables);
    let slices = tables.endpoints.iter();
    let foreign: BTreeSet<&str> =
        slices.filter_map(|(_, slice)| slice.foreign_to.as_deref()).collect();
    let machines = Machines::of(tables);
    let host = |(key, service): (&Arc<str>, &ServiceRecord)| {
        let candidates = joined.by_namespace.get(namespace_of(key));
        let behind: Vec<&Entry<'_>> = candidates
            .into_iter()
            .flatten()
            .map(|at| &joined.entries[*at])
            .filter(|entry| service.selector.matches(&entry.record.template.labels))
            .collect();
        let over = rules.over(service);
        let rule = over.rule(service);
        Host {
            name: service.host.clone(),
            backends: behind.iter().map(|entry| entry.id.clone()).collect(),
            ztunnel_only: !service.waypoint && ambient(&behind),
            leftover: over.leftover(&rule),
            rule: match rule {
                Rule::Ours(table) => Rule::Ours(over.placed(table, regions)),
                other => other,
            },
            default_split: if over.own_zone_first(service) {
                DefaultSplit::OwnZoneFirst
            } else {
                DefaultSplit::ByReplicas
            },
            displaced: displaced.behind(namespace_of(key), &service.selector),
            old_pod: old.behind(namespace_of(key), &service.selector),
            foreign_endpoints: foreign.contains(&**key) || machines.behind(key, service),
            adoptable: over.exact.iter().any(|(_, rule)| rule.share < Share::Rule),
        }
    };
    tables.services.iter().map(host).chain(rules.orphans(tables)).collect()
}

/// Machines outside the cluster: the labels of each, by namespace.
struct Machines<'a>(BTreeMap<&'a str, Vec<&'a TextLabels>>);

impl<'a> Machines<'a> {
    fn of(tables: &'a Tables) -> Self {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, labels) in tables.machines.iter() {
            found.entry(namespace_of(key)).or_default().push(labels);
        }
        Self(found)
    }

    /// Whether one of them is an endpoint of this Service.
    fn behind(&self, key: &str, service: &ServiceRecord) -> bool {
        let here = self.0.get(namespace_of(key));
        here.into_iter().flatten().any(|labels| service.selector.matches(labels))
    }
}

/// Whether what is Ready of these, and something is, goes through ztunnel.
fn ambient(behind: &[&Entry<'_>]) -> bool {
    behind.iter().any(|entry| entry.ready > 0)
        && behind.iter().all(|entry| entry.ambient == entry.ready)
}

/// A rule with its key, `namespace/name`.
type Keyed<'a> = (&'a Arc<str>, &'a RuleRecord);

/// All rules by what they name.
pub(crate) struct Rules<'a> {
    exact: BTreeMap<&'a str, Vec<Keyed<'a>>>,
    wildcards: Vec<&'a RuleRecord>,
}

/// The rules over one host.
pub(crate) struct Over<'a> {
    /// Those that name it alone, wherever they lie.
    pub(crate) exact: &'a [Keyed<'a>],
    wildcard: Option<&'a RuleRecord>,
}

impl<'a> Rules<'a> {
    pub(crate) fn of(tables: &'a Tables) -> Self {
        let mut exact: BTreeMap<&str, Vec<Keyed<'_>>> = BTreeMap::new();
        let mut wildcards = Vec::new();
        for (key, rule) in tables.rules.iter() {
            if rule.is_wildcard() {
                wildcards.push(rule);
            } else {
                exact.entry(&rule.host).or_default().push((key, rule));
            }
        }
        // The longest name is the most specific one, and takes effect.
        wildcards.sort_by_key(|rule| std::cmp::Reverse(rule.host.len()));
        Self { exact, wildcards }
    }

    /// Hosts with something of ours in their namespace and no Service with a selector.
    fn orphans(&self, tables: &Tables) -> impl Iterator<Item = Host> {
        let orphan = |(name, rules): (&&str, &Vec<Keyed<'_>>)| {
            let name: HostName = name.parse().ok()?;
            let (namespace, service) = (name.namespace(), name.service());
            let whole = HostName::of_service(&namespace, service).is_ok_and(|whole| whole == name);
            let here = |key: &str| namespace_of(key) == namespace.as_str();
            let ours = rules.iter().any(|(key, rule)| here(key) && rule.share > Share::Handed);
            let known = tables.services.get(&*format!("{namespace}/{service}")).is_some();
            (whole && ours && !known).then(|| Host {
                name,
                backends: Vec::new(),
                rule: Rule::Foreign(ForeignRule::NotAService),
                default_split: DefaultSplit::default(),
                adoptable: false,
                leftover: true,
                displaced: false,
                old_pod: None,
                foreign_endpoints: false,
                ztunnel_only: false,
            })
        };
        self.exact.iter().filter_map(orphan)
    }

    /// The rules over a host.
    pub(crate) fn over(&self, service: &ServiceRecord) -> Over<'_> {
        let name = service.host.as_str();
        Over {
            exact: self.exact.get(name).map(Vec::as_slice).unwrap_or_default(),
            wildcard: self.wildcards.iter().copied().find(|rule| rule.names(name)),
        }
    }
}

impl Over<'_> {
    /// What stands, and whose it is.
    pub(crate) fn rule(&self, service: &ServiceRecord) -> Rule {
        let namespace = service.host.namespace();
        let own = |key: &str| namespace_of(key) == namespace.as_str();
        Rule::Foreign(match self.exact {
            _ if !service.plain => ForeignRule::NotAService,
            [] if self.wildcard.is_none() => return Rule::None,
            [] => ForeignRule::Wildcard,
            [(key, _)] if !own(key) => ForeignRule::Elsewhere,
            [(_, only)] if only.partial => ForeignRule::Partial,
            [(_, only)] if only.share == Share::Rule && self.wildcard.is_some() => {
                ForeignRule::Wildcard
            }
            [(_, only)] => return only.rule.clone(),
            _ => ForeignRule::SeveralRules,
        })
    }

    /// Whether something of ours stands though the rule is not ours.
    fn leftover(&self, rule: &Rule) -> bool {
        let ours = self.exact.iter().any(|(_, rule)| rule.share > Share::Handed);
        ours && matches!(rule, Rule::Foreign(_))
    }

    /// Whether callers prefer their own zone without weights of ours.
    fn own_zone_first(&self, service: &ServiceRecord) -> bool {
        let effective = self.exact.first().map(|(_, rule)| *rule).or(self.wildcard);
        service.own_zone_first || effective.is_some_and(|rule| rule.own_zone_first)
    }

    /// Weights by the zones that there are. A zone of the rule that lies in another region
    /// now is one that is gone: nothing in it is named.
    pub(crate) fn placed(&self, table: RouteTable, regions: &Regions<'_>) -> RouteTable {
        let Some((_, record)) = self.exact.first() else { return table };
        placed(table, record, regions)
    }
}

/// Weights of a record by the zones that there are.
pub(crate) fn placed(table: RouteTable, record: &RuleRecord, regions: &Regions<'_>) -> RouteTable {
    let moved = |zone: &ZoneName| {
        let said = record.regions.get(zone)?;
        let found = regions.of(zone)?;
        if **said == *found.as_str() {
            return None;
        }
        ZoneName::new(&format!("{said}.{zone}")).ok()
    };
    if !record.regions.keys().any(|zone| moved(zone).is_some()) {
        return table;
    }
    let name = |zone: &ZoneName| moved(zone).unwrap_or_else(|| zone.clone());
    let rows = table.iter().filter_map(|(from, row)| {
        let row = row.iter().map(|(to, weight)| (name(to), weight)).collect();
        Some((name(from), Distribution::new(row).ok()?))
    });
    rows.collect()
}
