//! Routing rules: Istio's DestinationRules as a [`RoutingBackend`].
//!
//! - One field is ours, `spec.trafficPolicy.loadBalancer.localityLbSetting.distribute`,
//!   applied on the server side under our name and without force: a value that somebody
//!   else owns as well is answered with a conflict, and stays.
//! - A rule is read just before it is written, must still be ours to write and say what
//!   the plan expects (weights, or none), and is changed only at the version that was read.
//! - Where there is no rule, one is created with only what is needed, labelled, and owned
//!   by its Service, with which it goes.
//! - Giving back applies a rule without a spec, which takes exactly our field away; a rule
//!   that we created and nobody else says anything in is deleted.
//!
//! A caller's row and a destination are both `region/zone/*`: one for each zone that there
//! is, so that no two overlap, whatever subzones there are. Or both are `region/zone/node`,
//! one for each node that there is, where all have that name by a label of ours.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::ApiResource,
};
use serde_json::{Value, json};
use stornx_core::{
    ids::{HostName, ZoneName},
    model::{RouteTable, Rule},
    ports::{PortError, RoutingBackend},
};

use crate::{
    as_read,
    connect::DESTINATION_RULES,
    error::{is_not_found, port_error},
    facts::{
        hosts::{Rules, placed},
        places::Regions,
    },
    map::{
        name_of, namespace_of,
        rule::{self, MANAGED_BY, MANAGER, RuleRecord, Share},
        service::Uid,
    },
    watch::Shared,
};

/// Writes DestinationRules.
pub(crate) struct IstioRoutes {
    client: Client,
    shared: Arc<Shared>,
}

/// What is known of a host from the watches.
struct Sight {
    /// The name of the rule, and whether it is there already.
    name: String,
    there: bool,
    service: String,
    uid: Option<Uid>,
    /// The weights as the rule will have them.
    distribute: Value,
}

impl IstioRoutes {
    pub(crate) const fn new(client: Client, shared: Arc<Shared>) -> Self {
        Self { client, shared }
    }

    /// Where the weights of a host go, and how they are said.
    fn look(&self, host: &HostName, to: &RouteTable) -> Result<Sight, String> {
        self.shared.read(|tables, _| {
            let regions = Regions::of_nodes(tables);
            let distribute = distribute(to, &regions)?;
            let namespace = host.namespace();
            let service = host.service().to_owned();
            let key = format!("{namespace}/{service}");
            let record = tables.services.get(&*key).ok_or("its Service is gone")?;
            let rules = Rules::of(tables);
            let over = rules.over(record);
            if let Rule::Foreign(foreign) = over.rule(record) {
                return Err(foreign.to_string());
            }
            let found = over.exact.first().map(|(key, _)| name_of(key).to_owned());
            let there = found.is_some();
            let name = found.unwrap_or_else(|| format!("{MANAGER}-{service}"));
            Ok(Sight { name, there, service, uid: record.uid.clone(), distribute })
        })
    }

    /// Why a rule that was read is not to be written, or what of it is ours.
    fn judge(&self, object: &DynamicObject, host: &HostName, from: Option<&RouteTable>) -> Judged {
        let record = rule::record(object).filter(|record| record.names(host.as_str()));
        let Some(record) = record.filter(|record| !record.is_wildcard()) else {
            return Judged::Refused("the rule names another host now".to_owned());
        };
        if record.partial {
            return Judged::Refused("the rule holds for some callers only now".to_owned());
        }
        let stands = match &record.rule {
            Rule::Foreign(foreign) => return Judged::Refused(foreign.to_string()),
            Rule::None => None,
            Rule::Ours(table) => Some(
                self.shared
                    .read(|tables, _| placed(table.clone(), &record, &Regions::of_nodes(tables))),
            ),
        };
        match (stands, from) {
            (stands, from) if stands.as_ref() == from => Judged::Fit(record.share),
            // Whoever took them away did not ask for others in their place.
            (None, _) => Judged::Refused("the weights that stood are gone".to_owned()),
            (Some(_), _) => Judged::Refused("other weights stand".to_owned()),
        }
    }
}

enum Judged {
    Fit(Share),
    Refused(String),
}

#[async_trait]
impl RoutingBackend for IstioRoutes {
    async fn write(
        &self,
        host: &HostName,
        from: Option<&RouteTable>,
        to: &RouteTable,
    ) -> Result<(), PortError> {
        let what = format!("route {host}");
        let refused = |detail: String| PortError::Conflict { what: what.clone(), detail };
        let sight = self.look(host, to).map_err(refused)?;
        let api = rules(&self.client, host.namespace().as_str());
        let found = api.get_opt(&sight.name).await.map_err(|error| port_error(&what, &error))?;
        let (version, share) = match &found {
            Some(object) => match self.judge(object, host, from) {
                Judged::Fit(share) if sight.there => {
                    (object.metadata.resource_version.clone(), share)
                }
                Judged::Fit(_) => return Err(refused("a rule has just appeared".to_owned())),
                Judged::Refused(why) => return Err(refused(why)),
            },
            None if sight.there || from.is_some() => {
                return Err(refused("its rule is gone".to_owned()));
            }
            None => (None, Share::Rule),
        };
        let body = body(host, &sight, version, share);
        let patched = api.patch(&sight.name, &apply_params(), &Patch::Apply(body)).await;
        patched.map(drop).map_err(|error| port_error(&what, &error))
    }

    async fn give_back(&self, host: &HostName) -> Result<(), PortError> {
        let namespace = host.namespace();
        let names: Vec<String> = self.shared.read(|tables, _| {
            let ours = |(key, rule): (&Arc<str>, &RuleRecord)| {
                let here = namespace_of(key) == namespace.as_str();
                let named = &*rule.host == host.as_str();
                (here && named && rule.share > Share::Handed).then(|| name_of(key).to_owned())
            };
            tables.rules.iter().filter_map(ours).collect()
        });
        for name in names {
            give_back(&self.client, namespace.as_str(), &name, false).await?;
        }
        Ok(())
    }
}

/// What was done, or would be, with a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenBack {
    /// Nothing in it was ours.
    Nothing,
    /// Our field was taken out of it.
    Field,
    /// It was deleted.
    Rule,
}

/// Takes what is ours out of a rule, or says what would be done.
pub(crate) async fn give_back(
    client: &Client,
    namespace: &str,
    name: &str,
    dry_run: bool,
) -> Result<GivenBack, PortError> {
    let what = format!("give back the routing rule {namespace}/{name}");
    let failed = |error: kube::Error| port_error(&what, &error);
    let api = rules(client, namespace);
    let Some(object) = api.get_opt(name).await.map_err(failed)? else {
        return Ok(GivenBack::Nothing);
    };
    let meta = &object.metadata;
    let share = rule::record(&object).map_or(Share::None, |record| record.share);
    let spec = match share {
        Share::None | Share::Handed => return Ok(GivenBack::Nothing),
        Share::Rule if !rule::is_shared(meta) => {
            if dry_run {
                return Ok(GivenBack::Rule);
            }
            return match api.delete(name, &as_read(meta)).await {
                Ok(_) => Ok(GivenBack::Rule),
                Err(error) if is_not_found(&error) => Ok(GivenBack::Nothing),
                Err(error) => Err(failed(error)),
            };
        }
        // Others say something in it: it stays, and it cannot be without a host.
        Share::Rule => json!({ "spec": { "host": object.data["spec"]["host"] } }),
        Share::Weights => json!({}),
    };
    if dry_run {
        return Ok(GivenBack::Field);
    }
    let mut body = identified(namespace, name, meta.resource_version.clone());
    if let Some(spec) = spec.get("spec") {
        body["spec"] = spec.clone();
    }
    api.patch(name, &apply_params(), &Patch::Apply(body)).await.map_err(failed)?;
    Ok(GivenBack::Field)
}

/// All rules of a namespace.
pub(crate) fn rules(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource())
}

pub(crate) fn resource() -> ApiResource {
    let api = DESTINATION_RULES;
    ApiResource {
        group: api.group.to_owned(),
        version: api.version.to_owned(),
        api_version: format!("{}/{}", api.group, api.version),
        kind: api.kind.to_owned(),
        plural: api.plural.to_owned(),
    }
}

/// Without force: what somebody else owns too stays as it is.
fn apply_params() -> PatchParams {
    PatchParams { force: false, ..PatchParams::apply(MANAGER) }
}

fn identified(namespace: &str, name: &str, version: Option<String>) -> Value {
    let resource = resource();
    let mut object = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": { "namespace": namespace, "name": name }
    });
    if let Some(version) = version {
        object["metadata"]["resourceVersion"] = json!(version);
    }
    object
}

/// What is applied: our field, and in a rule of ours what makes it one.
fn body(host: &HostName, sight: &Sight, version: Option<String>, share: Share) -> Value {
    let mut object = identified(host.namespace().as_str(), &sight.name, version);
    object["spec"] = json!({ "trafficPolicy": { "loadBalancer": { "localityLbSetting": {
        "distribute": sight.distribute
    }}}});
    if matches!(share, Share::Rule | Share::Handed) {
        object["spec"]["host"] = json!(host.as_str());
        object["metadata"]["labels"] = json!({ MANAGED_BY: MANAGER });
        if let Some(uid) = &sight.uid {
            object["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "v1", "kind": "Service", "name": sight.service, "uid": **uid
            }]);
        }
    }
    object
}

/// Weights as Istio has them. Every zone (or every node) that there is now is named in every
/// row: one that has joined since the plan was made would else be cut off.
fn distribute(table: &RouteTable, regions: &Regions<'_>) -> Result<Value, String> {
    let place = |place: &ZoneName| match regions.of(place) {
        Some(region) if place.node().is_some() => Ok(format!("{region}/{place}")),
        Some(region) => Ok(format!("{region}/{place}/*")),
        None => Err(format!("zone {place} is gone, or lies in two regions")),
    };
    let wanted: BTreeSet<ZoneName> = if table.keys().any(|place| place.node().is_some()) {
        regions.nodes().cloned().ok_or("a node has no label with its name any more")?
    } else {
        regions.zones().cloned().collect()
    };
    for zone in &wanted {
        if table.values().any(|row| row.weight(zone) == 0) || !table.contains_key(zone) {
            return Err(format!("{zone} has appeared"));
        }
    }
    // A place beside the others would overlap with them, or be gone.
    let named = table
        .iter()
        .flat_map(|(from, row)| std::iter::once(from).chain(row.iter().map(|(to, _)| to)));
    if let Some(gone) = named.into_iter().find(|place| !wanted.contains(*place)) {
        return Err(format!("{gone} is gone"));
    }
    let rows = table.iter().map(|(from, row)| {
        let to: Result<serde_json::Map<_, _>, String> =
            row.iter().map(|(to, weight)| Ok((place(to)?, json!(weight)))).collect();
        Ok(json!({ "from": place(from)?, "to": to? }))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use stornx_core::{model::Distribution, testing::SplitMix64};

    use super::*;
    use crate::watch::kinds::Tables;

    fn cluster(zones: usize) -> Tables {
        let mut tables = Tables::default();
        for at in 0..zones {
            let node = serde_json::from_value(json!({ "metadata": { "name": format!("n{at}"),
                "labels": { "topology.kubernetes.io/zone": format!("z.{at}"),
                    "topology.kubernetes.io/region": format!("r{}", at % 3) } } }));
            let node = crate::map::node::record(&node.unwrap()).unwrap();
            tables.nodes.set(format!("n{at}").into(), node);
        }
        tables
    }

    fn table(random: &mut SplitMix64, zones: &[ZoneName]) -> RouteTable {
        let row = |random: &mut SplitMix64| {
            let mut weights = vec![1_u8; zones.len()];
            for _ in zones.len()..100 {
                weights[random.between_usize(0, zones.len() - 1)] += 1;
            }
            Distribution::new(zones.iter().cloned().zip(weights).collect()).unwrap()
        };
        zones.iter().map(|zone| (zone.clone(), row(random))).collect()
    }

    /// The rules that Istio checks: whole weights of 1 to 100, 100 together, one `*` at the
    /// end at most, no two places that overlap. And ours: every place is in every row.
    #[test]
    fn whatever_is_planned_is_valid() {
        let mut random = SplitMix64::new(5);
        for _ in 0..300 {
            let count = random.between_usize(1, 40);
            let tables = cluster(count);
            let regions = Regions::of_nodes(&tables);
            let zones: Vec<ZoneName> = regions.zones().cloned().collect();
            let said = distribute(&table(&mut random, &zones), &regions).unwrap();
            let rows = said.as_array().unwrap();
            let from: BTreeSet<&str> =
                rows.iter().map(|row| row["from"].as_str().unwrap()).collect();
            assert_eq!((rows.len(), from.len()), (count, count));
            for row in rows {
                let to = row["to"].as_object().unwrap();
                let named: BTreeSet<&str> = to.keys().map(String::as_str).collect();
                assert_eq!(named, from, "every place, for every caller");
                let weights: Vec<u64> =
                    to.values().map(|weight| weight.as_u64().unwrap()).collect();
                assert_eq!(weights.iter().sum::<u64>(), 100);
                assert!(weights.iter().all(|weight| (1..=100).contains(weight)));
            }
            for place in from {
                let parts: Vec<&str> = place.split('/').collect();
                assert!(parts.len() == 3 && parts[2] == "*", "{place}");
                assert!(parts[..2].iter().all(|part| !part.is_empty() && !part.contains('*')));
            }
        }
    }

    #[test]
    fn a_zone_that_has_appeared_or_is_in_two_regions_is_no_reason_to_write() {
        let mut random = SplitMix64::new(6);
        let (two, three) = (cluster(2), cluster(3));
        let zones: Vec<ZoneName> = Regions::of_nodes(&two).zones().cloned().collect();
        let planned = table(&mut random, &zones);
        assert!(distribute(&planned, &Regions::of_nodes(&three)).unwrap_err().contains("appeared"));
        let mut split = cluster(2);
        let mut node = split.nodes.get("n0").unwrap().clone();
        node.region = "r9".parse().unwrap();
        split.nodes.set("n9".into(), node);
        assert!(distribute(&planned, &Regions::of_nodes(&split)).is_err());
    }

    #[test]
    fn nodes_are_named_all_or_none() {
        let mut random = SplitMix64::new(7);
        let mut tables = cluster(5);
        for at in 0..5 {
            let mut node = tables.nodes.get(&*format!("n{at}")).unwrap().clone();
            node.named_since = Some(stornx_core::units::Timestamp::from_millis(1));
            tables.nodes.set(format!("n{at}").into(), node);
        }
        let places: Vec<ZoneName> =
            Regions::of_nodes(&tables).nodes().unwrap().iter().cloned().collect();
        let planned = table(&mut random, &places);
        let said = distribute(&planned, &Regions::of_nodes(&tables)).unwrap();
        assert_eq!(said.as_array().unwrap().len(), 5);
        assert_eq!(said[1]["from"], "r1/z.1/n1");
        assert_eq!(said[1]["to"].as_object().unwrap().len(), 5);
        // Some of them is not enough.
        let some = table(&mut random, &places[..4]);
        assert!(distribute(&some, &Regions::of_nodes(&tables)).unwrap_err().contains("appeared"));
        // A node that has just joined has no label.
        let mut joined = tables.nodes.get("n0").unwrap().clone();
        (joined.name, joined.named_since) = ("n9".parse().unwrap(), None);
        tables.nodes.set("n9".into(), joined);
        assert!(distribute(&planned, &Regions::of_nodes(&tables)).unwrap_err().contains("label"));
    }
}
