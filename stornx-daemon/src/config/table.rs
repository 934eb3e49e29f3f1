//! The table of all settings: name, meaning, what is allowed, and where the value
//! lives in [`Settings`]. Defaults are those of the structs, so that they stand in one
//! place only. The names are a contract: they are added to, never renamed.

use super::{Settings, values::SettingValue};

/// What a setting is about, in the order of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Daemon,
    Kubernetes,
    Webhook,
    Prometheus,
    Scaling,
    FaultTolerance,
    Moves,
    Routing,
    Latency,
    Price,
}

impl Group {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Daemon => "Daemon",
            Self::Kubernetes => "Kubernetes",
            Self::Webhook => "Webhook (where new replicas run)",
            Self::Prometheus => "Prometheus",
            Self::Scaling => "Scaling (OptiScaler)",
            Self::FaultTolerance => "Fault tolerance",
            Self::Moves => "Moves of running replicas",
            Self::Routing => "Routing weights (OptiBalancer)",
            Self::Latency => "Round-trip times where none is measured",
            Self::Price => "Prices",
        }
    }
}

/// One setting.
pub(super) struct Setting {
    pub(super) group: Group,
    /// The environment variable, and the key of the file.
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    /// What is allowed, in plain words.
    pub(super) allowed: &'static str,
    pub(super) get: fn(&Settings) -> String,
    /// `None` when the text is no value of this setting; the settings are then as
    /// before.
    pub(super) set: fn(&mut Settings, &str) -> Option<()>,
}

macro_rules! setting {
    ($group:ident, $name:literal, $($field:ident).+, $allowed:literal, $meaning:literal) => {
        Setting {
            group: Group::$group,
            name: $name,
            meaning: $meaning,
            allowed: $allowed,
            get: |settings| settings.$($field).+.write(),
            set: |settings, text| {
                settings.$($field).+ = SettingValue::read(text)?;
                Some(())
            },
        }
    };
}

/// All settings, by group.
#[rustfmt::skip] // One setting, two lines: a table reads better than a column.
pub(super) static SETTINGS: &[Setting] = &[
    setting!(Daemon, "ENV", environment, "production or development",
        "production (service account, JSON logs) or development (kubeconfig, logs for people)"),
    setting!(Daemon, "APP_PORT", port, "a port, 0 to 65535",
        "HTTP port; 0 takes any free one"),
    setting!(Daemon, "NAMESPACES", policy.namespaces, "namespaces, comma-separated, at least one",
        "the namespaces to manage; nothing is written outside them"),
    setting!(Daemon, "CRONJOB_EXPRESSION", schedule, "a cron expression of 5 fields, or 6 with seconds first, that comes due",
        "when a cycle runs"),
    setting!(Daemon, "LOCALITY_LABELS_CRON", labels_schedule, "a cron expression of 5 fields, or 6 with seconds first, that comes due",
        "when locality labels are refreshed; zones are followed at once, so that it decides nothing yet"),
    setting!(Daemon, "DRY_RUN", engine.dry_run, "true or false",
        "decide and report, write nothing"),
    setting!(Daemon, "DEBOUNCE_SECONDS", pace.debounce, "seconds, at least 0",
        "how long a change of endpoints or nodes waits for others before it triggers a cycle"),
    setting!(Daemon, "GLANCE_SECONDS", pace.glance, "seconds, at least 1",
        "how often the metrics are looked at between two cycles; best the scrape interval"),
    setting!(Daemon, "CYCLE_DEADLINE_SECONDS", engine.deadline, "seconds above 0",
        "no action is begun later than this after the start of its cycle"),
    setting!(Daemon, "METRICS_MAX_AGE_SECONDS", engine.metrics_max_age, "1 to 3600 seconds",
        "metrics older than this are stale: nothing new is decided on them"),
    setting!(Daemon, "LOG_LEVEL", log, "error, warn, info, debug or trace, or directives such as info,stornx_k8s=debug",
        "what is logged; a change in the settings file takes effect without a restart"),
    setting!(Daemon, "LOG_FORMAT", log_format, "auto, json or text",
        "how log lines look; auto is json in production and text in development"),

    setting!(Kubernetes, "OWN_NAMESPACE", kubernetes.own_namespace, "a namespace, or empty",
        "where the memory and the lease of StornX lie; empty: the namespace that it runs in"),
    setting!(Kubernetes, "OWN_NAME", kubernetes.name, "the name of an object",
        "name of the ConfigMap with the memory and of the Lease"),
    setting!(Kubernetes, "LEASE_SECONDS", kubernetes.lease, "seconds, at least three times WRITE_TIMEOUT_SECONDS",
        "how long after its last sign of life a leader is replaced"),
    setting!(Kubernetes, "WRITE_TIMEOUT_SECONDS", kubernetes.write_timeout, "seconds above 0",
        "longest wait for the answer to one write"),
    setting!(Kubernetes, "CLUSTER_MAX_AGE_SECONDS", kubernetes.max_age, "seconds, at least 5",
        "when a watch has failed for longer, nothing is planned"),

    setting!(Webhook, "WEBHOOK_ENABLED", webhook.enabled, "true or false",
        "tell new replicas where to run, by an admission webhook; without it the scheduler decides alone"),
    setting!(Webhook, "WEBHOOK_PORT", webhook.port, "a port, 0 to 65535, not 0 beside WEBHOOK_URL",
        "HTTPS port of the webhook; 0 takes any free one"),
    setting!(Webhook, "WEBHOOK_URL", webhook.url, "https://HOST or https://HOST:PORT, or empty",
        "where the API server reaches a StornX outside the cluster; empty: by the Service, at the address in POD_IP"),
    setting!(Webhook, "WEBHOOK_CERT_FILE", webhook.cert_file, "the path of a file, or empty",
        "PEM file with a certificate for the webhook, read again when it changes; empty: StornX makes its own"),
    setting!(Webhook, "WEBHOOK_KEY_FILE", webhook.key_file, "the path of a file, or empty",
        "PEM file with the key of that certificate"),

    setting!(Prometheus, "PROMETHEUS_URL", prometheus.url, "an http or https URL without a query",
        "Prometheus, or anything with its HTTP API"),
    setting!(Prometheus, "PROMETHEUS_TIMEOUT_SECONDS", prometheus.timeout, "0.1 to 300 seconds",
        "longest wait for the answer to one query"),
    setting!(Prometheus, "PROMETHEUS_BODY_LIMIT_MB", prometheus.body_limit, "1 to 1024",
        "largest answer to one query in MiB, decompressed"),
    setting!(Prometheus, "PROMETHEUS_RATE_WINDOW_SECONDS", prometheus.rate_window, "1 to 3600 seconds",
        "window over which rates are taken; at least two scrape intervals, better four"),
    setting!(Prometheus, "PROMETHEUS_TOKEN_FILE", prometheus.token_file, "the path of a file, or empty",
        "file with a bearer token, read again in each cycle"),
    setting!(Prometheus, "PROMETHEUS_USER", prometheus.user, "a name, or empty",
        "user for basic authentication"),
    setting!(Prometheus, "PROMETHEUS_PASSWORD_FILE", prometheus.password_file, "the path of a file, or empty",
        "file with the password for basic authentication"),
    setting!(Prometheus, "PROMETHEUS_CA_FILE", prometheus.ca_file, "the path of a file, or empty",
        "PEM file with the certificate authorities to trust instead of those of the system"),
    setting!(Prometheus, "PROMETHEUS_HEADERS", prometheus.headers, "Name=value, comma-separated, or empty",
        "further headers of each query, such as X-Scope-OrgID=team for multi-tenant back ends"),
    setting!(Prometheus, "PROMETHEUS_MESH_POD_LABEL", prometheus.mesh_pod_label, "the name of a label",
        "label of the mesh's series that names the pod whose proxy says so"),
    setting!(Prometheus, "PROMETHEUS_MESH_NAMESPACE_LABEL", prometheus.mesh_namespace_label, "the name of a label",
        "label of the mesh's series that names the namespace of that pod"),
    setting!(Prometheus, "PROMETHEUS_USAGE_POD_LABEL", prometheus.usage_pod_label, "the name of a label",
        "label of cAdvisor's series that names the pod"),
    setting!(Prometheus, "PROMETHEUS_USAGE_NAMESPACE_LABEL", prometheus.usage_namespace_label, "the name of a label",
        "label of cAdvisor's series that names the namespace"),
    setting!(Prometheus, "PROMETHEUS_CONTAINER_LABEL", prometheus.container_label, "the name of a label",
        "label of cAdvisor's series that names the container"),
    setting!(Prometheus, "NODE_LATENCY_METRIC", prometheus.latency_metric, "the name of a metric, or empty",
        "metric with round-trip times in ms by from_node and to_node; empty: none is asked for"),

    setting!(Scaling, "SCALER_ENABLED", policy.scaler.enabled, "true or false",
        "change replica counts"),
    setting!(Scaling, "METRICS_TYPE", policy.scaler.metrics, "cpu, memory or combined",
        "what utilisation is made of"),
    setting!(Scaling, "METRICS_UPPER_THRESHOLD", policy.scaler.upper, "a percentage above METRICS_LOWER_THRESHOLD and at most 100",
        "utilisation in % above which a workload scales up"),
    setting!(Scaling, "METRICS_LOWER_THRESHOLD", policy.scaler.lower, "a percentage below METRICS_UPPER_THRESHOLD",
        "utilisation in % below which a workload scales down"),
    setting!(Scaling, "RESPONSE_TIME_THRESHOLD", policy.scaler.response_time, "milliseconds above 0",
        "target p95 in ms"),
    setting!(Scaling, "CPU_WEIGHT", policy.scaler.cpu_weight, "0 to 100, not 0 together with MEMORY_WEIGHT",
        "weight of CPU in combined scores"),
    setting!(Scaling, "MEMORY_WEIGHT", policy.scaler.memory_weight, "0 to 100, not 0 together with CPU_WEIGHT",
        "weight of memory in combined scores"),
    setting!(Scaling, "SCALER_COOLDOWN_SECONDS", policy.scaler.cooldown, "seconds, at least 0",
        "least time between two scale actions on one workload"),
    setting!(Scaling, "SCALER_MAX_STEP", policy.scaler.max_step, "a whole number, at least 1",
        "most replicas added or removed by one action"),
    setting!(Scaling, "SCALER_MAX_ACTIONS", policy.scaler.max_actions, "a whole number, at least 0",
        "most workloads scaled in one cycle"),
    setting!(Scaling, "SCALER_MIN_REPLICAS", policy.scaler.min_replicas, "1 to SCALER_MAX_REPLICAS",
        "least replicas, where the workload does not say"),
    setting!(Scaling, "SCALER_MAX_REPLICAS", policy.scaler.max_replicas, "a whole number, at least SCALER_MIN_REPLICAS",
        "most replicas, where the workload does not say"),
    setting!(Scaling, "SCALER_RESPECT_HPA", policy.scaler.respect_autoscalers, "true or false",
        "leave counts that an HPA or KEDA owns alone"),
    setting!(Scaling, "SCALER_RESPECT_PDB", policy.scaler.respect_budgets, "true or false",
        "never break a PodDisruptionBudget"),

    setting!(FaultTolerance, "FT_MAX_ZONES", policy.fault_tolerance.max_zones, "a whole number, at least 1",
        "zones across which the replicas of a workload are spread: a floor and a ceiling"),
    setting!(FaultTolerance, "FT_MAX_SKEW", policy.fault_tolerance.max_skew, "a whole number, at least 1",
        "most replicas that the fullest of those zones may have more than the emptiest"),
    setting!(FaultTolerance, "FT_SURVIVE_PERCENT", policy.fault_tolerance.survive, "0 to 100",
        "share of today's demand in % that the replicas left after the loss of any zone can serve at full utilisation"),

    setting!(Moves, "MOVES_ENABLED", policy.moves.enabled, "true or false",
        "move running replicas; switched off, moves in flight are still finished or undone"),
    setting!(Moves, "MOVE_MAX_PER_CYCLE", policy.moves.max_per_cycle, "a whole number, at least 0",
        "most moves begun in one cycle"),
    setting!(Moves, "MOVE_MAX_IN_FLIGHT", policy.moves.max_in_flight, "a whole number, at least 0",
        "most moves under way at one time in the whole cluster"),
    setting!(Moves, "MOVE_MAX_PER_ZONE", policy.moves.max_per_zone, "a whole number, at least 0",
        "most moves into or out of one zone begun in one cycle"),
    setting!(Moves, "MOVE_HORIZON_SECONDS", policy.moves.horizon, "seconds above 0",
        "over how long a move must pay for itself"),
    setting!(Moves, "MOVE_TIMEOUT_SECONDS", policy.moves.timeout, "seconds, at least 0",
        "a replacement that is not Ready by then goes again"),
    setting!(Moves, "MOVE_BACKOFF_SECONDS", policy.moves.backoff, "seconds, at least 0",
        "how long a workload is left alone after a move; doubled by each move that disappoints"),
    setting!(Moves, "MOVE_MIN_GAIN_PERCENT", policy.moves.min_gain, "a percentage, at least 0",
        "least predicted saving in % of the travel cost of the touched edges"),
    setting!(Moves, "MOVE_SLOW_FACTOR", policy.moves.slow_factor, "a number above 1",
        "how many times the median p95 of its siblings makes a replica slow and worth replacing elsewhere"),

    setting!(Routing, "BALANCER_ENABLED", policy.balancer.enabled, "true or false",
        "write routing weights"),
    setting!(Routing, "BALANCER_POLICY", policy.balancer.rule, "flow or proportional",
        "the target rule: flow (minimum-cost flow over all callers at once) or proportional (the classic product of scores)"),
    setting!(Routing, "BALANCER_MIN_DELTA", policy.balancer.min_delta, "0 to 100",
        "smallest change worth a write (L1, percentage points)"),
    setting!(Routing, "BALANCER_MIN_STEP_SIZE", policy.balancer.min_step, "1 to BALANCER_MAX_STEP_SIZE",
        "floor of the step (percentage points per cycle)"),
    setting!(Routing, "BALANCER_MAX_STEP_SIZE", policy.balancer.max_step, "BALANCER_MIN_STEP_SIZE to 100",
        "ceiling of the step (percentage points per cycle)"),
    setting!(Routing, "BALANCER_URGENCY_THRESHOLD", policy.balancer.urgency_threshold, "percentage points above 0",
        "delta at which the step is largest"),
    setting!(Routing, "BALANCER_EPSILON", policy.balancer.epsilon, "1 to 20",
        "per-route tolerance (percentage points)"),
    setting!(Routing, "BALANCER_MAX_UTILISATION", policy.balancer.max_utilisation, "1 to 100",
        "cap in % of a destination's predicted utilisation"),
    setting!(Routing, "BALANCER_RESERVE", policy.balancer.reserve, "1 to 10",
        "least weight of each destination zone (percentage points)"),
    setting!(Routing, "BALANCER_WARMUP_SECONDS", policy.balancer.warmup, "seconds, at least 0",
        "how long a new replica counts only partly"),
    setting!(Routing, "BALANCER_MIN_GAIN_PERCENT", policy.balancer.min_gain, "a percentage, at least 0",
        "a target that would save less than this share of the host's cost is left alone"),
    setting!(Routing, "BALANCER_STALE_SECONDS", policy.balancer.stale_after, "seconds, at least 0",
        "metrics stale or missing for longer let the weights decay towards the replica-proportional split"),
    setting!(Routing, "BALANCER_BACKOFF_SECONDS", policy.balancer.backoff, "seconds, at least 0",
        "how long a host is left alone after a change that had to be undone; doubled each time"),

    setting!(Latency, "LATENCY_SAME_NODE_MS", policy.latency.same_node, "milliseconds, at least 0",
        "round trip within a node"),
    setting!(Latency, "LATENCY_SAME_ZONE_MS", policy.latency.same_zone, "milliseconds, at least 0",
        "round trip between two nodes of a zone"),
    setting!(Latency, "LATENCY_SAME_REGION_MS", policy.latency.same_region, "milliseconds, at least 0",
        "round trip between two zones of a region"),
    setting!(Latency, "LATENCY_OTHER_REGION_MS", policy.latency.other_region, "milliseconds, at least 0",
        "round trip between two regions"),

    setting!(Price, "PRICE_CROSS_ZONE_USD_PER_GB", policy.price.cross_zone, "US dollars, at least 0",
        "price of 10^9 bytes between zones, both sides together"),
    setting!(Price, "PRICE_CROSS_REGION_USD_PER_GB", policy.price.cross_region, "US dollars, at least 0",
        "price of 10^9 bytes between regions, both sides together"),
    setting!(Price, "PRICE_WEIGHT_MS", policy.price.weight, "milliseconds, at least 0",
        "milliseconds of round trip that are worth one US dollar per million requests"),
    setting!(Price, "PRICE_REPLICA_USD_PER_HOUR", policy.price.replica_hour, "US dollars, at least 0",
        "what a surge replica costs while it runs, for the payback of moves"),
];
