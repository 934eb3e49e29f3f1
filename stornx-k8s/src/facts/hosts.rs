//! Services with the workloads behind them and the rules over them.
//!
//! Only one rule for a host takes effect, so that a second one, a wildcard over hosts
//! without a rule of their own (a rule of ours would take its place and lose what else
//! it sets), and a rule for some callers only are not ours to add to.

use std::collections::BTreeMap;

use stornx_core::model::{DefaultSplit, ForeignRule, Host, Rule};

use super::join::Joined;
use crate::{
    map::namespace_of, map::rule::RuleRecord, map::service::ServiceRecord, watch::kinds::Tables,
};

/// The hosts of all Services with a selector.
pub(crate) fn hosts(tables: &Tables, joined: &Joined<'_>) -> Vec<Host> {
    let rules = Rules::of(tables);
    let host = |(key, service): (&std::sync::Arc<str>, &ServiceRecord)| {
        let candidates = joined.by_namespace.get(namespace_of(key));
        let backends = candidates
            .into_iter()
            .flatten()
            .map(|at| &joined.entries[*at])
            .filter(|entry| service.selector.matches(&entry.record.template.labels))
            .map(|entry| entry.id.clone())
            .collect();
        let (rule, own_zone_first) = rules.over(service);
        Host {
            name: service.host.clone(),
            backends,
            rule,
            default_split: if own_zone_first {
                DefaultSplit::OwnZoneFirst
            } else {
                DefaultSplit::ByReplicas
            },
        }
    };
    tables.services.iter().map(host).collect()
}

struct Rules<'a> {
    exact: BTreeMap<&'a str, Vec<&'a RuleRecord>>,
    wildcards: Vec<&'a RuleRecord>,
}

impl<'a> Rules<'a> {
    fn of(tables: &'a Tables) -> Self {
        let mut exact: BTreeMap<&str, Vec<&RuleRecord>> = BTreeMap::new();
        let mut wildcards = Vec::new();
        for (_, rule) in tables.rules.iter() {
            if rule.is_wildcard() {
                wildcards.push(rule);
            } else {
                exact.entry(&rule.host).or_default().push(rule);
            }
        }
        // The longest name is the most specific one, and takes effect.
        wildcards.sort_by_key(|rule| std::cmp::Reverse(rule.host.len()));
        Self { exact, wildcards }
    }

    /// The rule over a host, and whether its callers prefer their own zone without one.
    fn over(&self, service: &ServiceRecord) -> (Rule, bool) {
        let name = service.host.as_str();
        let exact = self.exact.get(name).map(Vec::as_slice).unwrap_or_default();
        let wildcard = self.wildcards.iter().find(|rule| rule.names(name));
        let effective = exact.first().or(wildcard);
        let own_zone_first =
            service.own_zone_first || effective.is_some_and(|rule| rule.own_zone_first);
        let rule = match exact {
            _ if !service.plain => Rule::Foreign(ForeignRule::NotAService),
            [only] if !only.partial => only.rule.clone(),
            [] if wildcard.is_none() => Rule::None,
            _ => Rule::Foreign(ForeignRule::SeveralRules),
        };
        (rule, own_zone_first)
    }
}
