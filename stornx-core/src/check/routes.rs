//! Invariant 1: every caller zone has a distribution, every zone that can hold an
//! endpoint is named in each, and no other; none is written where an endpoint is said to
//! be in another place than its node, or is no pod of this cluster. Whole numbers that sum to 100 are already
//! what [`Distribution`](crate::model::Distribution) is.

use super::{Violation, ground::Ground};
use crate::plan::Action;

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    for action in ground.actions() {
        let Action::SetRoutes { host, to, .. } = action else { continue };
        if ground.hosts.get(host).is_some_and(|host| host.displaced) {
            violations.push(Violation::EndpointElsewhere { host: host.clone() });
        }
        if ground.hosts.get(host).is_some_and(|host| host.foreign_endpoints) {
            violations.push(Violation::EndpointWithoutPlace { host: host.clone() });
        }
        for caller in &ground.zones {
            let Some(distribution) = to.get(*caller) else {
                let (host, caller) = (host.clone(), (*caller).clone());
                violations.push(Violation::CallerForgotten { host, caller });
                continue;
            };
            for zone in &ground.zones {
                if distribution.weight(zone) == 0 {
                    let (host, caller, zone) = (host.clone(), (*caller).clone(), (*zone).clone());
                    violations.push(Violation::ZoneCutOff { host, caller, zone });
                }
            }
        }
        for (caller, distribution) in to {
            let named = distribution.iter().map(|(zone, _)| zone);
            for zone in std::iter::once(caller).chain(named) {
                if !ground.zones.contains(zone) {
                    let (host, zone) = (host.clone(), zone.clone());
                    violations.push(Violation::UnknownZone { host, zone });
                }
            }
        }
    }
}
