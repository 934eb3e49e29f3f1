//! What an Envoy counts by itself, read from its administration page: requests of each
//! cluster by status, between which zones they went, and how long they took.
//!
//! Names of statistics: Envoy's documentation, "Cluster statistics" (dynamic HTTP
//! statistics, per zone statistics). `<zone>` is where the proxy is, the second where the
//! endpoint is.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

/// How long the page may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Asks for the statistics of clusters of istiod, buckets counted from the start.
const QUESTION: &str = "stats?format=json&histogram_buckets=cumulative&filter=\
                        ^cluster\\.outbound.*\\.upstream_rq_([0-9]{3}|time)$";

/// Where the statistics of one caller are.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// Port of its administration page.
    pub(super) admin: u16,
    /// `namespace/name` of its pod.
    pub from: String,
}

/// What one Envoy has counted of the requests to one host since it runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counted {
    /// Requests by HTTP status.
    pub codes: BTreeMap<u16, u64>,
    /// Requests that were answered with 200, by the zone of the endpoint.
    pub zones: BTreeMap<String, u64>,
    /// Upper bounds, milliseconds, each with the requests that took at most so long. What is
    /// counted since the last second may be missing.
    pub took: Vec<(f64, u64)>,
}

impl Statistics {
    /// By host, those that anything was sent to.
    ///
    /// # Errors
    /// When it does not answer, or not as expected.
    pub async fn read(&self) -> Result<BTreeMap<String, Counted>, String> {
        let url = format!("http://127.0.0.1:{}/{QUESTION}", self.admin);
        let asked = async { reqwest::get(&url).await?.text().await };
        let answer = tokio::time::timeout(LIMIT, asked).await.map_err(|error| error.to_string())?;
        let text = answer.map_err(|error| error.to_string())?;
        Ok(counted(&serde_json::from_str(&text).map_err(|error| format!("{error} in {text:?}"))?))
    }
}

/// What was counted in all. An Envoy begins anew to count a cluster that it is told anew.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Total {
    /// In all, by host.
    pub hosts: BTreeMap<String, Counted>,
    last: BTreeMap<String, Counted>,
}

impl Total {
    /// Adds what came since the reading before.
    pub(super) fn add(&mut self, now: BTreeMap<String, Counted>) {
        let since = |now: u64, last: u64| now.checked_sub(last).unwrap_or(now);
        for (host, now) in now {
            let last = self.last.remove(&host).unwrap_or_default();
            let total = self.hosts.entry(host.clone()).or_default();
            for (code, count) in &now.codes {
                *total.codes.entry(*code).or_default() +=
                    since(*count, last.codes.get(code).copied().unwrap_or(0));
            }
            for (zone, count) in &now.zones {
                *total.zones.entry(zone.clone()).or_default() +=
                    since(*count, last.zones.get(zone).copied().unwrap_or(0));
            }
            // All begin anew together, or none.
            let all = |took: &[(f64, u64)]| took.last().map_or(0, |(_, below)| *below);
            let anew = all(&now.took) < all(&last.took);
            total.took.resize(now.took.len(), (0.0, 0));
            for (at, (bound, below)) in now.took.iter().enumerate() {
                let last = last.took.get(at).filter(|_| !anew).map_or(0, |(_, below)| *below);
                let total = &mut total.took[at];
                *total = (*bound, total.1 + since(*below, last));
            }
            self.last.insert(host, now);
        }
    }
}

fn counted(page: &Value) -> BTreeMap<String, Counted> {
    let mut hosts: BTreeMap<String, Counted> = BTreeMap::new();
    for stat in page["stats"].as_array().into_iter().flatten() {
        if let (Some(name), Some(value)) = (stat["name"].as_str(), stat["value"].as_u64())
            && let Some((host, path)) = parts(name)
            && let Some(code) = path.last().and_then(|last| last.strip_prefix("upstream_rq_"))
            && let Ok(code) = code.parse()
        {
            let host = hosts.entry(host).or_default();
            match path[..] {
                [_] => drop(host.codes.insert(code, value)),
                ["zone", _, zone, _] if code == 200 => {
                    host.zones.insert(zone.to_owned(), value);
                }
                _ => {}
            }
        }
        for histogram in stat["histograms"].as_array().into_iter().flatten() {
            if let Some((host, path)) = histogram["name"].as_str().and_then(parts)
                && path[..] == ["upstream_rq_time"]
            {
                let bucket =
                    |one: &Value| Some((one["upper_bound"].as_f64()?, one["cumulative"].as_u64()?));
                let buckets = histogram["buckets"].as_array().into_iter().flatten();
                hosts.entry(host).or_default().took = buckets.filter_map(bucket).collect();
            }
        }
    }
    hosts.retain(|_, host| !host.codes.is_empty());
    hosts
}

/// The host of a statistic of a cluster, and the parts of its name within the cluster.
fn parts(name: &str) -> Option<(String, Vec<&str>)> {
    const END: &str = ".svc.cluster.local";
    let name = name.strip_prefix("cluster.outbound|")?;
    let (_, name) = name.split_once("||")?;
    let (host, rest) = name.split_once(END)?;
    // istiod ends the names of its clusters so that they can be told from what follows.
    let rest = rest.trim_start_matches(';').strip_prefix('.')?;
    Some((format!("{host}{END}"), rest.split('.').collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Counted, Total, counted};

    #[test]
    fn what_begins_anew_is_added() {
        let read = |sent, soon, late| {
            let counted = Counted {
                codes: [(200, sent)].into(),
                zones: [("zone-a".to_owned(), sent)].into(),
                took: vec![(1.0, soon), (5.0, late)],
            };
            std::collections::BTreeMap::from([("cart".to_owned(), counted)])
        };
        let mut total = Total::default();
        total.add(read(10, 4, 10));
        total.add(read(15, 5, 15));
        // Anew: more below the first bound than before, fewer in all.
        total.add(read(8, 6, 8));
        assert_eq!(total.hosts, read(23, 11, 23));
        total.add(std::collections::BTreeMap::new());
        total.add(read(9, 6, 9));
        assert_eq!(total.hosts, read(24, 11, 24));
    }

    #[test]
    fn requests_are_told_by_status_zone_and_time() {
        let cluster = "cluster.outbound|80||cart.shop.svc.cluster.local;";
        let page = json!({"stats": [
            {"name": format!("{cluster}.upstream_rq_200"), "value": 7},
            {"name": format!("{cluster}.upstream_rq_503"), "value": 2},
            {"name": format!("{cluster}.external.upstream_rq_200"), "value": 7},
            {"name": format!("{cluster}.zone.zone-a.zone-b.upstream_rq_200"), "value": 3},
            {"name": format!("{cluster}.zone.zone-a.zone-a.upstream_rq_200"), "value": 4},
            {"name": format!("{cluster}.zone.zone-a.zone-a.upstream_rq_503"), "value": 2},
            {"name": "cluster.istiod.upstream_rq_200", "value": 1},
            {"histograms": [
                {"name": format!("{cluster}.external.upstream_rq_time"), "buckets": []},
                {"name": format!("{cluster}.upstream_rq_time"), "buckets": [
                    {"upper_bound": 0.5, "interval": 0, "cumulative": 1},
                    {"upper_bound": 1, "interval": 0, "cumulative": 9},
                ]}
            ]}
        ]});
        let hosts = counted(&page);
        assert_eq!(hosts.len(), 1);
        let cart = &hosts["cart.shop.svc.cluster.local"];
        assert_eq!(cart.codes, [(200, 7), (503, 2)].into());
        assert_eq!(cart.zones, [("zone-a".to_owned(), 4), ("zone-b".to_owned(), 3)].into());
        assert_eq!(cart.took, [(0.5, 1), (1.0, 9)]);
    }
}
