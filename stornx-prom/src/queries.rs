//! Every question that is asked, as data: its name, what it means, its text, and what the
//! rows of its answer are. Ten, whatever the size of the cluster.
//!
//! What they rest on:
//! - The standard metrics of Istio 1.24 and later (istio.io, "Istio Standard Metrics"):
//!   `reporter="source"` is the proxy of the caller, `"destination"` that of the callee,
//!   `"waypoint"` one that stands between. `response_code` is `0` where there was no
//!   answer. Bytes *received* on a connection are those of the request, bytes *sent* those
//!   of the response.
//! - gRPC answers 200 whatever happens and says so in `grpc_response_status` (gRPC,
//!   "Status Codes and their Use"). Failures of the server are those that its HTTP mapping
//!   (google.rpc.Code) puts among the 5xx: UNKNOWN 2, DEADLINE_EXCEEDED 4, UNIMPLEMENTED 12,
//!   INTERNAL 13, UNAVAILABLE 14, DATA_LOSS 15; and RESOURCE_EXHAUSTED 8, which says that
//!   the server has nothing left.
//! - cAdvisor's metrics as the kubelet shows them. Series without a container are sums over
//!   a pod or above, `POD` is the container that holds the pod's network: both would count
//!   twice or say nothing.
//!
//! Several metrics with the same rows share a query and are told apart by the label
//! [`PART`]. Where a label that is grouped by is absent, its value is empty.

use stornx_core::units::Span;

use crate::options::PrometheusOptions;

/// The label that tells the parts of an answer apart. No metric has it.
pub(crate) const PART: &str = "stornx_part";

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Its name, in errors, warnings and metrics.
    pub name: &'static str,
    /// What it asks.
    pub meaning: &'static str,
    /// What one row of its answer is.
    pub rows: &'static str,
    /// PromQL with places for what is configurable.
    template: &'static str,
}

/// What callers sent.
pub(crate) const REQUESTS_SENT: Query = Query {
    name: "requests_sent",
    meaning: "requests, and failed requests, per second as callers (or waypoints) see them",
    rows: "caller pod, caller workload, callee workload, host; part requests or errors",
    template: r#"
label_replace(sum by ({edge}) (rate(istio_requests_total{reporter=~"source|waypoint"}[{window}])), "{part}", "requests", "", "")
or
label_replace(sum by ({edge}) (
  rate(istio_requests_total{reporter=~"source|waypoint",response_code=~"{bad}"}[{window}])
  or rate(istio_requests_total{reporter=~"source|waypoint",response_code!~"{bad}",grpc_response_status=~"{grpc}"}[{window}])
), "{part}", "errors", "", "")"#,
};

/// What callees served.
///
/// No answer with the flag `DC` (Envoy, "downstream connection termination") is the caller
/// that has hung up: no failure of the callee. Callers report it as theirs.
pub(crate) const REQUESTS_SERVED: Query = Query {
    name: "requests_served",
    meaning: "requests, and failed requests, per second as callees see them",
    rows: "callee pod, caller workload, host; part requests or errors",
    template: r#"
label_replace(sum by ({served}) (rate(istio_requests_total{reporter="destination"}[{window}])), "{part}", "requests", "", "")
or
label_replace(sum by ({served}) (
  rate(istio_requests_total{reporter="destination",response_code=~"5.."}[{window}])
  or rate(istio_requests_total{reporter="destination",response_code="0",response_flags!="DC"}[{window}])
  or rate(istio_requests_total{reporter="destination",response_code!~"{bad}",grpc_response_status=~"{grpc}"}[{window}])
), "{part}", "errors", "", "")"#,
};

/// How long callees take.
pub(crate) const P95_PODS: Query = Query {
    name: "p95_pods",
    meaning: "95th percentile of the time in ms that a callee takes, over all its callers",
    rows: "callee pod",
    template: r#"
histogram_quantile(0.95, sum by ({pod},{namespace},le) (rate(istio_request_duration_milliseconds_bucket{reporter="destination"}[{window}])))"#,
};

/// The same for each caller.
pub(crate) const P95_EDGES: Query = Query {
    name: "p95_edges",
    meaning: "95th percentile of the time in ms that a callee takes for one of its callers",
    rows: "callee pod, caller workload, host",
    template: r#"
histogram_quantile(0.95, sum by ({served},le) (rate(istio_request_duration_milliseconds_bucket{reporter="destination"}[{window}])))"#,
};

/// How large requests and responses are.
pub(crate) const BYTES_SENT: Query = Query {
    name: "bytes_sent",
    meaning: "bytes per second of requests and responses as callers (or waypoints) see them",
    rows: "caller pod, caller workload, callee workload, host; part request_bytes or response_bytes",
    template: r#"
label_replace(sum by ({edge}) (rate(istio_request_bytes_sum{reporter=~"source|waypoint"}[{window}])), "{part}", "request_bytes", "", "")
or
label_replace(sum by ({edge}) (rate(istio_response_bytes_sum{reporter=~"source|waypoint"}[{window}])), "{part}", "response_bytes", "", "")"#,
};

/// What goes over connections without requests, as callers see it.
pub(crate) const TCP_SENT: Query = Query {
    name: "tcp_sent",
    meaning: "bytes per second over plain connections as callers see them",
    rows: "caller pod, caller workload, callee workload, host; part request_bytes or response_bytes",
    template: r#"
label_replace(sum by ({edge}) (rate(istio_tcp_received_bytes_total{reporter="source"}[{window}])), "{part}", "request_bytes", "", "")
or
label_replace(sum by ({edge}) (rate(istio_tcp_sent_bytes_total{reporter="source"}[{window}])), "{part}", "response_bytes", "", "")"#,
};

/// The same as callees see it.
pub(crate) const TCP_SERVED: Query = Query {
    name: "tcp_served",
    meaning: "bytes per second over plain connections as callees see them",
    rows: "callee pod, caller workload, host; part request_bytes or response_bytes",
    template: r#"
label_replace(sum by ({served}) (rate(istio_tcp_received_bytes_total{reporter="destination"}[{window}])), "{part}", "request_bytes", "", "")
or
label_replace(sum by ({served}) (rate(istio_tcp_sent_bytes_total{reporter="destination"}[{window}])), "{part}", "response_bytes", "", "")"#,
};

/// What pods use.
///
/// A container may have more than one series: one of each kubelet job that scrapes it, and
/// after a restart the old one for some minutes, since samples of cAdvisor bear times of
/// their own. The largest counts. The CPU of a container that was restarted within the
/// window is then that of its longer life: at worst half of what it was, not twice.
pub(crate) const USAGE: Query = Query {
    name: "usage",
    meaning: "cores, bytes of memory, and CPU periods (all, throttled) per second of a pod",
    rows: "pod; part cpu, memory, periods or throttled",
    template: r#"
label_replace(sum by ({usage}) (max by ({usage},{container}) (rate(container_cpu_usage_seconds_total{{containers}}[{window}]))), "{part}", "cpu", "", "")
or
label_replace(sum by ({usage}) (max by ({usage},{container}) (container_memory_working_set_bytes{{containers}})), "{part}", "memory", "", "")
or
label_replace(sum by ({usage}) (max by ({usage},{container}) (rate(container_cpu_cfs_periods_total{{containers}}[{window}]))), "{part}", "periods", "", "")
or
label_replace(sum by ({usage}) (max by ({usage},{container}) (rate(container_cpu_cfs_throttled_periods_total{{containers}}[{window}]))), "{part}", "throttled", "", "")"#,
};

/// How far apart nodes are. Pairs are judged one by one: an exporter that has lost one node
/// goes on with the others.
pub(crate) const LATENCY: Query = Query {
    name: "latency",
    meaning: "round-trip time in ms from one node to another",
    rows: "from_node, to_node",
    template: "avg by (from_node,to_node) ({latency} and (time() - timestamp({latency}) <= {age_s}))",
};

/// When pods were last heard of.
///
/// A scrape that fails ends its series at once, though one failure says nothing: where a
/// series has ended, the times at which it was still there within the allowed age are
/// looked at.
pub(crate) const LAST_SAMPLES: Query = Query {
    name: "last_samples",
    meaning: "when the newest sample was taken, seconds since the epoch",
    rows: "pod, part usage or mesh; one row of part latency",
    template: r#"
label_replace(
  max by ({usage}) (timestamp(container_memory_working_set_bytes{{containers}}))
  or max_over_time(max by ({usage}) (timestamp(container_memory_working_set_bytes{{containers}}))[{age}:{step}]),
"{part}", "usage", "", "")
or
label_replace(
  max by ({pod},{namespace}) (timestamp(istio_requests_total) or timestamp(istio_tcp_sent_bytes_total))
  or max_over_time(max by ({pod},{namespace}) (timestamp(istio_requests_total) or timestamp(istio_tcp_sent_bytes_total))[{age}:{step}]),
"{part}", "mesh", "", "")"#,
};

/// What is asked beside that where there is a metric of round-trip times.
const LAST_LATENCY: &str = r#"
or
label_replace(
  max(timestamp({latency})) or max_over_time(max(timestamp({latency}))[{age}:{step}]),
"{part}", "latency", "", "")"#;

/// All of them.
pub const QUERIES: [Query; 10] = [
    LAST_SAMPLES,
    REQUESTS_SENT,
    REQUESTS_SERVED,
    P95_PODS,
    P95_EDGES,
    BYTES_SENT,
    TCP_SENT,
    TCP_SERVED,
    USAGE,
    LATENCY,
];

/// Classes of `response_code` that are failures.
const BAD_CODES: &str = "0|5..";
/// Values of `grpc_response_status` that are failures of the server.
const BAD_GRPC: &str = "2|4|8|12|13|14|15";

impl Query {
    /// The PromQL of this query; none when these options need no answer to it.
    #[must_use]
    pub fn promql(&self, options: &PrometheusOptions) -> Option<String> {
        let with_latency = options.latency_metric.is_some();
        if !with_latency && self.name == LATENCY.name {
            return None;
        }
        let labels = &options.labels;
        let callers = "source_workload,source_workload_namespace,destination_service";
        let served = format!("{},{},{callers}", labels.mesh_pod, labels.mesh_namespace);
        let edge = format!("{served},reporter,destination_workload,destination_workload_namespace");
        let containers =
            format!(r##"{0}!="",{0}!="POD",{1}!="""##, labels.container, labels.usage_pod);
        let step = Span::from_millis((options.max_sample_age.as_millis() / 4).max(1000));
        let places = [
            ("{edge}", edge.as_str()),
            ("{served}", &served),
            ("{pod}", &labels.mesh_pod),
            ("{namespace}", &labels.mesh_namespace),
            ("{usage}", &format!("{},{}", labels.usage_pod, labels.usage_namespace)),
            ("{container}", &labels.container),
            ("{containers}", &containers),
            ("{window}", &duration(options.window)),
            ("{age}", &duration(options.max_sample_age)),
            ("{step}", &duration(step)),
            ("{age_s}", &options.max_sample_age.as_seconds_f64().to_string()),
            ("{latency}", options.latency_metric.as_deref().unwrap_or_default()),
            ("{part}", PART),
            ("{bad}", BAD_CODES),
            ("{grpc}", BAD_GRPC),
        ];
        let mut text = self.template.trim().to_owned();
        if with_latency && self.name == LAST_SAMPLES.name {
            text.push_str(LAST_LATENCY);
        }
        for (place, value) in places {
            text = text.replace(place, value);
        }
        Some(text)
    }
}

/// A length of time as PromQL writes it.
fn duration(span: Span) -> String {
    format!("{}ms", span.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Labels;

    #[test]
    fn names_are_unique_and_every_place_is_filled() {
        let labels = Labels {
            mesh_pod: "kubernetes_pod_name".to_owned(),
            usage_pod: "exported_pod".to_owned(),
            container: "container_name".to_owned(),
            ..Labels::default()
        };
        let options = PrometheusOptions::builder("http://x")
            .labels(labels)
            .latency_metric("ping_ms")
            .build()
            .unwrap();
        let mut names: Vec<_> = QUERIES.iter().map(|query| query.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), QUERIES.len());
        for query in QUERIES {
            let text = query.promql(&options).unwrap();
            for (place, open) in text.match_indices('{') {
                let inside = &text[place + open.len()..];
                let inside = &inside[..inside.find('}').unwrap()];
                assert!(inside.contains('='), "{}: {inside}", query.name);
            }
            let count = |char: char| text.matches(char).count();
            assert_eq!((count('('), count('{')), (count(')'), count('}')), "{text}");
        }
        let usage = USAGE.promql(&options).unwrap();
        assert!(
            usage.contains(
                r#"sum by (exported_pod,namespace) (max by (exported_pod,namespace,container_name) (rate(container_cpu_usage_seconds_total{container_name!="",container_name!="POD",exported_pod!=""}[150000ms])))"#
            ),
            "{usage}"
        );
        let served = REQUESTS_SERVED.promql(&options).unwrap();
        assert!(served.contains(r#"response_code="0",response_flags!="DC""#), "{served}");
        assert!(!REQUESTS_SENT.promql(&options).unwrap().contains("response_flags"));
        // Every metric of a container: two series of one count once.
        assert_eq!(usage.matches("max by (exported_pod,namespace,container_name) (").count(), 4);
        assert_eq!(
            LATENCY.promql(&options).unwrap(),
            "avg by (from_node,to_node) (ping_ms and (time() - timestamp(ping_ms) <= 120))"
        );
    }

    #[test]
    fn without_a_metric_of_round_trips_none_is_asked_for() {
        let options = PrometheusOptions::builder("http://x").latency_metric("").build().unwrap();
        assert_eq!(LATENCY.promql(&options), None);
        let last = LAST_SAMPLES.promql(&options).unwrap();
        assert!(!last.contains("latency") && last.ends_with(r#""mesh", "", "")"#), "{last}");
    }
}
