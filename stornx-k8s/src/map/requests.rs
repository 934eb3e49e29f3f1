//! What one pod asks for and may use, as the scheduler counts it.
//!
//! Requests are the larger of what its containers ask for together (with the
//! restartable init containers, which go on running beside them) and the most that any
//! init container needs while it runs (with the restartable ones started before it),
//! plus the overhead of its runtime class. Resources of the pod as a whole
//! (`spec.resources`) take the place of both. A container that has only a limit asks
//! for that limit, as the API server writes it into pods.
//!
//! A quantity that cannot be read (in practice one beyond every number that we have) is
//! taken for more than any node has: nothing fits beside it. What is decided for a
//! workload by what it asks for would be wrong all the same: [`unreadable`] names it,
//! and the workload is left alone.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use stornx_core::units::{Bytes, MilliCpu, Resources};

use super::quantity;

type List = BTreeMap<String, Quantity>;

/// One resource of a list; `None` when it is not named there.
type Reader<T> = fn(Option<&List>) -> Option<T>;

/// Millicores or bytes: 4 PiB of memory, and as much as can be added up a thousand times.
const MORE_THAN_ANY: u64 = 1 << 52;

fn cpu_of(list: Option<&List>) -> Option<MilliCpu> {
    let quantity = list?.get("cpu")?;
    Some(quantity::milli_cpu(quantity).unwrap_or(MilliCpu::new(MORE_THAN_ANY)))
}

fn memory_of(list: Option<&List>) -> Option<Bytes> {
    let quantity = list?.get("memory")?;
    Some(quantity::bytes(quantity).unwrap_or(Bytes::new(MORE_THAN_ANY)))
}

/// Whether these may be the requests of a pod that could be read.
pub(crate) fn plausible(requests: &Resources) -> bool {
    requests.cpu.get() < MORE_THAN_ANY && requests.memory.get() < MORE_THAN_ANY
}

/// The first CPU or memory of a specification that cannot be read, in words.
pub(crate) fn unreadable(spec: &PodSpec) -> Option<String> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let of_containers = containers.map(|one| (one.name.as_str(), one.resources.as_ref()));
    let resources = of_containers.chain([("the pod", spec.resources.as_ref())]);
    let lists = resources.flat_map(|(whose, resources)| {
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        [(whose, "requests", requests), (whose, "limits", limits)]
    });
    let mut all = lists.chain([("the pod", "overhead", spec.overhead.as_ref())]);
    all.find_map(|(whose, list, quantities)| {
        let bad = |name: &str, readable: fn(&Quantity) -> bool| {
            let quantity = quantities?.get(name).filter(|quantity| !readable(quantity))?;
            Some(format!("{list}.{name} of {whose}, {:?}, is no quantity", quantity.0))
        };
        bad("cpu", |quantity| quantity::milli_cpu(quantity).is_some())
            .or_else(|| bad("memory", |quantity| quantity::bytes(quantity).is_some()))
    })
}

/// What a pod of this specification asks for.
pub(crate) fn requests(spec: &PodSpec) -> Resources {
    Resources { cpu: requested(spec, cpu_of), memory: requested(spec, memory_of) }
}

/// What a pod of this specification may use; zero for a resource without a limit (some
/// container has none), `None` when there is no limit at all.
pub(crate) fn limits(spec: &PodSpec) -> Option<Resources> {
    let (cpu, memory) = (limited(spec, cpu_of), limited(spec, memory_of));
    (cpu.is_some() || memory.is_some())
        .then(|| Resources { cpu: cpu.unwrap_or_default(), memory: memory.unwrap_or_default() })
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn request_of<T: Default>(resources: Option<&ResourceRequirements>, read: Reader<T>) -> Option<T> {
    let resources = resources?;
    read(resources.requests.as_ref()).or_else(|| read(resources.limits.as_ref()))
}

fn requested<T>(spec: &PodSpec, read: Reader<T>) -> T
where
    T: Copy + Default + Ord + std::ops::Add<Output = T>,
{
    let overhead = read(spec.overhead.as_ref()).unwrap_or_default();
    if let Some(whole) = request_of(spec.resources.as_ref(), read) {
        return whole + overhead;
    }
    let of =
        |container: &Container| request_of(container.resources.as_ref(), read).unwrap_or_default();
    let (mut sidecars, mut peak) = (T::default(), T::default());
    for container in spec.init_containers.iter().flatten() {
        if is_sidecar(container) {
            sidecars = sidecars + of(container);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + of(container));
        }
    }
    let running = spec.containers.iter().fold(sidecars, |sum, container| sum + of(container));
    running.max(peak) + overhead
}

fn limited<T>(spec: &PodSpec, read: Reader<T>) -> Option<T>
where
    T: Copy + Default + std::ops::Add<Output = T>,
{
    if let Some(whole) = spec.resources.as_ref().and_then(|r| read(r.limits.as_ref())) {
        return Some(whole);
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let mut sum = T::default();
    for container in spec.containers.iter().chain(sidecars) {
        sum = sum + read(container.resources.as_ref()?.limits.as_ref())?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    fn asks(cpu: &str) -> serde_json::Value {
        json!({ "requests": { "cpu": cpu, "memory": "10Mi" } })
    }

    fn cpu(value: serde_json::Value) -> u64 {
        requests(&spec(value)).cpu.get()
    }

    #[test]
    fn containers_add_up_and_init_containers_peak() {
        let containers = json!([
            { "name": "a", "resources": asks("100m") },
            { "name": "b", "resources": asks("200m") }
        ]);
        assert_eq!(cpu(json!({ "containers": containers })), 300);
        let init = json!([{ "name": "i", "resources": asks("500m") }]);
        assert_eq!(cpu(json!({ "containers": containers, "initContainers": init })), 500);
        let init = json!([{ "name": "i", "resources": asks("50m") }]);
        assert_eq!(cpu(json!({ "containers": containers, "initContainers": init })), 300);
    }

    #[test]
    fn sidecars_run_beside_both() {
        // The example of the sidecar documentation: a sidecar counts with containers
        // and with the init containers after it, not with those before it.
        let before = json!({ "name": "before", "resources": asks("350m") });
        let sidecar = json!({ "name": "s", "restartPolicy": "Always", "resources": asks("100m") });
        let after = json!({ "name": "after", "resources": asks("300m") });
        let containers = json!([{ "name": "a", "resources": asks("150m") }]);
        assert_eq!(
            cpu(json!({ "containers": containers, "initContainers": [before, sidecar, after] })),
            400
        );
        assert_eq!(cpu(json!({ "containers": containers, "initContainers": [sidecar] })), 250);
    }

    #[test]
    fn overhead_limits_and_whole_pod_resources_count() {
        let containers = json!([{ "name": "a", "resources": { "limits": { "cpu": "1" } } }]);
        let with = json!({ "containers": containers, "overhead": { "cpu": "10m" } });
        assert_eq!(cpu(with), 1010, "a limit without a request is a request");
        let whole = json!({ "containers": containers, "resources": asks("2") });
        assert_eq!(cpu(whole), 2000);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_fits_nowhere() {
        let bad = json!({ "requests": { "cpu": "1e400", "memory": "1Ei" } });
        let read = spec(json!({ "containers": [
            { "name": "a", "resources": asks("100m") }, { "name": "b", "resources": bad }
        ]}));
        let text = unreadable(&read).unwrap();
        assert_eq!(text, "requests.cpu of b, \"1e400\", is no quantity");
        let asked = requests(&read);
        assert!(asked.cpu.get() > MORE_THAN_ANY && !plausible(&asked));
        let limited = json!({ "name": "c", "resources": { "limits": { "memory": "1XB" } } });
        let text = unreadable(&spec(json!({ "containers": [limited] }))).unwrap();
        assert_eq!(text, "limits.memory of c, \"1XB\", is no quantity");
        let overhead = json!({ "containers": [], "overhead": { "cpu": "?" } });
        assert!(unreadable(&spec(overhead)).unwrap().starts_with("overhead.cpu of the pod"));
        let good = spec(json!({ "containers": [{ "name": "a", "resources": asks("1") }] }));
        assert_eq!((unreadable(&good), plausible(&requests(&good))), (None, true));
    }

    #[test]
    fn a_container_without_a_limit_leaves_the_pod_without() {
        let limited =
            json!({ "name": "a", "resources": { "limits": { "cpu": "1", "memory": "1Gi" } } });
        let free = json!({ "name": "b", "resources": { "limits": { "memory": "1Gi" } } });
        let both = limits(&spec(json!({ "containers": [limited, free] }))).unwrap();
        assert_eq!((both.cpu.get(), both.memory.get()), (0, 2 << 30));
        assert_eq!(limits(&spec(json!({ "containers": [limited, { "name": "c" }] }))), None);
    }
}
