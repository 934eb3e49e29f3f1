//! CPU, memory and throttling by pod.

use stornx_core::{
    model::PodUsage,
    units::{Bytes, MilliCpu, Share},
};

use crate::{options::Labels, places::Places, response::Row, sums::part_of, youth::Youth};

const PARTS: [&str; 4] = ["cpu", "memory", "periods", "throttled"];

/// What was read of pods.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// By pod of the cluster, in the order of [`PARTS`].
    pods: Vec<[Option<f64>; 4]>,
    /// Rows at all.
    pub(crate) any: bool,
    /// Rows of pods of the cluster.
    pub(crate) joined: bool,
}

impl Usage {
    pub(crate) fn new(places: &Places<'_>) -> Self {
        Self { pods: vec![[None; 4]; places.pods.len()], ..Self::default() }
    }

    pub(crate) fn take(
        &mut self,
        places: &Places<'_>,
        labels: &Labels,
        fresh: &[bool],
        row: &Row<'_>,
    ) {
        self.any = true;
        let (namespace, pod) = (row.label(&labels.usage_namespace), row.label(&labels.usage_pod));
        let Some(pod) = places.pod(namespace, pod) else { return };
        self.joined = true;
        if let Some(part) = part_of(row, PARTS)
            && fresh[pod]
        {
            self.pods[pod][part] = Some(row.value);
        }
    }

    /// Pods of which both CPU and memory are known: half of it would look like a zero.
    /// Pods that are too young for a rate are therefore left out altogether. Throttling is
    /// a ratio of two rates, so that age has no part in it.
    pub(crate) fn finish(&self, places: &Places<'_>, youth: &[Youth]) -> Vec<PodUsage> {
        let pods = self.pods.iter().zip(&places.pods).zip(youth);
        let known = pods.filter_map(|((parts, place), youth)| {
            let [cpu, memory, periods, throttled] = *parts;
            let cpu = cpu? * youth.factor()?;
            Some(PodUsage {
                pod: place.name.clone(),
                cpu: MilliCpu::new(whole(cpu * 1000.0)),
                memory: Bytes::new(whole(memory?)),
                throttled: periods
                    .filter(|periods| *periods > 0.0)
                    .map(|periods| Share::saturating(throttled.unwrap_or(0.0) / periods)),
            })
        });
        known.collect()
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Clamped.
fn whole(value: f64) -> u64 {
    value.round().clamp(0.0, 9e18) as u64
}
