//! Invariant 2: no route moves by more than the step of the cycle, and each purpose
//! does what it says.
//!
//! The target of a step is the planner's choice and not known here. What is known:
//! the split that stands, hence the size of every change; the step that follows from
//! the distance the report claims; the target of a decay; the split that an undo goes
//! back to; and what a cover may touch.

use std::collections::{BTreeMap, BTreeSet};

use super::{Violation, ground::Ground, shares::Subzones};
use crate::{
    ids::{HostName, ZoneName},
    model::{DefaultSplit, Distribution, Host, Rollout, RouteTable, Rule},
    plan::{Action, RoutePurpose},
    report::{RouteWhy, Why},
    units::Millis,
};

/// Sums of whole numbers below 2^53 are exact; this is for claims that were computed in
/// another order.
const EXACT: f64 = 1e-6;

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let reasons = &ground.planned.report.actions;
    for (action, report) in ground.actions().zip(reasons) {
        let (Action::SetRoutes { host, from, to, first, purpose, .. }, Why::Route(why)) =
            (action, &report.why)
        else {
            continue;
        };
        let Some(known) = ground.hosts.get(host) else { continue };
        let shares = replica_shares(ground, known);
        let subzones = match known.backends.as_slice() {
            [one] => ground.workloads.get(one).and_then(|one| Subzones::of(ground, one)),
            _ => None,
        };
        let write = Write { ground, host: known, from, to, why, shares, subzones };
        write.stands(violations);
        if *first == matches!(known.rule, Rule::Ours(_)) {
            violations.push(write.false_claim("whether weights stand"));
        }
        write.claims(violations);
        match purpose {
            RoutePurpose::Improve => {
                write.step(violations);
                write.reserve(violations);
            }
            RoutePurpose::Decay => {
                write.step(violations);
                write.decays(violations);
            }
            RoutePurpose::Rollout => {
                write.step(violations);
                write.decays(violations);
                write.rolls_out(violations);
            }
            RoutePurpose::Cover => write.covers(violations),
            RoutePurpose::Undo => write.restores(violations),
        }
    }
}

struct Write<'a> {
    ground: &'a Ground<'a>,
    host: &'a Host,
    from: &'a RouteTable,
    to: &'a RouteTable,
    why: &'a RouteWhy,
    /// Percentage of its replicas in each zone; `None` while nothing serves.
    shares: Option<BTreeMap<&'a ZoneName, f64>>,
    /// Where its endpoints are within their zones; `None` where a weight is a share.
    subzones: Option<Subzones<'a>>,
}

fn replica_shares<'a>(ground: &Ground<'a>, host: &Host) -> Option<BTreeMap<&'a ZoneName, f64>> {
    let [backend] = host.backends.as_slice() else { return None };
    let ready = ground.ready(ground.workloads.get(backend)?, &[]);
    let total: u32 = ready.values().sum();
    if total == 0 {
        return None;
    }
    let share = |count: u32| 100.0 * f64::from(count) / f64::from(total);
    Some(ready.into_iter().map(|(zone, count)| (zone, share(count))).collect())
}

impl Write<'_> {
    fn name(&self) -> HostName {
        self.host.name.clone()
    }

    /// `from` is the split that stands, or what its repair leaves of it.
    fn stands(&self, violations: &mut Vec<Violation>) {
        for (caller, distribution) in self.from {
            let ruled = match &self.host.rule {
                Rule::Ours(table) => table.get(caller),
                Rule::None | Rule::Foreign(_) => None,
            };
            let stands = match ruled {
                Some(ruled) => is_repair(ruled, distribution, &self.ground.zones),
                None => self.is_default(caller, distribution),
            };
            if !stands {
                let (host, caller) = (self.name(), caller.clone());
                violations.push(Violation::SplitMisread { host, caller });
            }
        }
    }

    /// Whether a distribution is what the mesh does without a rule, to the points that
    /// rounding takes and to one for each zone that has to be named.
    fn is_default(&self, caller: &ZoneName, distribution: &Distribution) -> bool {
        let Some(shares) = &self.shares else { return true };
        let own_first = self.host.default_split == DefaultSplit::OwnZoneFirst;
        let at_home = |zone: &ZoneName| zone.domain() == caller.domain();
        let home: f64 = shares.iter().filter(|(zone, _)| at_home(zone)).map(|(_, s)| s).sum();
        let expected = |zone: &ZoneName| match shares.get(zone).copied().unwrap_or(0.0) {
            own if own_first && home > 0.0 && at_home(zone) => own * 100.0 / home,
            _ if own_first && home > 0.0 => 0.0,
            share => share,
        };
        let slack = 1.0 + points(self.ground.zones.len());
        distribution.iter().all(|(zone, w)| (f64::from(w) - expected(zone)).abs() <= slack)
    }

    /// Every (caller, destination, weight before, weight after) of callers that had a
    /// split before.
    fn routes(&self) -> Vec<(&ZoneName, &ZoneName, u8, u8)> {
        let mut routes = Vec::new();
        for (caller, after) in self.to {
            let Some(before) = self.from.get(caller) else { continue };
            let named: BTreeSet<_> = before.iter().chain(after.iter()).map(|(z, _)| z).collect();
            for zone in named {
                routes.push((caller, zone, before.weight(zone), after.weight(zone)));
            }
        }
        routes
    }

    fn change(&self) -> u32 {
        let points = |(_, _, before, after): &(_, _, u8, u8)| u32::from(before.abs_diff(*after));
        self.routes().iter().map(points).sum()
    }

    /// The report speaks of this write: the route that it says changes most does so.
    fn claims(&self, violations: &mut Vec<Violation>) {
        let most = self.routes().iter().map(|(_, _, b, a)| b.abs_diff(*a)).max().unwrap_or(0);
        if let Some((caller, zone, before, after)) = &self.why.largest {
            let live = self.from.get(caller).map(|distribution| distribution.weight(zone));
            let next = self.to.get(caller).map(|distribution| distribution.weight(zone));
            let real = live.is_none_or(|live| live == *before) && next == Some(*after);
            let largest = before.abs_diff(*after) >= most;
            if !real || !largest {
                violations.push(self.false_claim("the route that changes most"));
            }
        }
    }

    fn false_claim(&self, claim: &'static str) -> Violation {
        Violation::FalseClaim { host: self.name(), claim }
    }

    /// A step: its size follows from the distance claimed, no route exceeds it, the
    /// change is worth a write, and callers do not appear out of nothing.
    fn step(&self, violations: &mut Vec<Violation>) {
        let policy = &self.ground.policy.balancer;
        let urgency = (self.why.delta / policy.urgency_threshold.get()).min(1.0);
        let (least, most) = (policy.min_step.get(), policy.max_step.get());
        let step = least + urgency * (most - least);
        if (self.why.step - step).abs() > EXACT || self.why.step > most + EXACT {
            violations.push(self.false_claim("the step that follows from the delta"));
        }
        let change = f64::from(self.change());
        if change > self.why.delta + EXACT {
            violations.push(self.false_claim("the delta: the write changes more than it"));
        }
        if change < policy.min_delta.get() - EXACT {
            let (host, change) = (self.name(), self.change());
            violations.push(Violation::NotWorthAWrite { host, change });
        }
        for (caller, zone, before, after) in self.routes() {
            let moved = before.abs_diff(after);
            // Weights are whole: a step below 1 still moves one point.
            if f64::from(moved) > step.min(most).max(1.0) + EXACT {
                violations.push(Violation::StepTooLarge {
                    host: self.name(),
                    caller: caller.clone(),
                    zone: zone.clone(),
                    before,
                    after,
                    step,
                });
            }
        }
        for caller in self.to.keys().filter(|caller| !self.from.contains_key(*caller)) {
            let (host, caller) = (self.name(), caller.clone());
            violations.push(Violation::SplitMisread { host, caller });
        }
    }

    /// A zone with replicas keeps the reserve of every caller, as far as so many zones
    /// leave room for it; where it has less already, it is not lowered further. Excused
    /// is a zone that answers too slowly, or that the reserve alone could fill, by what
    /// the report says of it.
    fn reserve(&self, violations: &mut Vec<Violation>) {
        let Some(shares) = &self.shares else { return };
        let room = 50.0 / points(self.ground.zones.len());
        let reserve = self.ground.policy.balancer.reserve.get().min(room).floor();
        for (caller, zone, before, after) in self.routes() {
            let lowered = after < before && f64::from(after) < reserve;
            let spent = lowered
                && self
                    .subzones
                    .as_ref()
                    .is_none_or(|subzones| self.spends(subzones, caller, zone, reserve));
            if spent && shares.contains_key(zone) && !self.is_excused(zone, reserve) {
                let (host, caller, zone) = (self.name(), caller.clone(), zone.clone());
                violations.push(Violation::ReserveSpent { host, caller, zone, after });
            }
        }
    }

    /// Whether a zone really gets less of a caller than before, and less than the reserve to
    /// the point that whole numbers take.
    fn spends(
        &self,
        subzones: &Subzones<'_>,
        caller: &ZoneName,
        zone: &ZoneName,
        reserve: f64,
    ) -> bool {
        let of = |table: &RouteTable| {
            let row = table.get(caller)?;
            subzones.percentages(row).get(zone).copied()
        };
        let (Some(before), Some(after)) = (of(self.from), of(self.to)) else { return false };
        after < before - EXACT && after < reserve - 1.0
    }

    fn is_excused(&self, zone: &ZoneName, reserve: f64) -> bool {
        let report = &self.ground.planned.report;
        let said = report.hosts.get(&self.host.name).and_then(|host| host.destinations.get(zone));
        let Some(said) = said else { return false };
        let edges = self.ground.edges_of(&self.host.name);
        let demand: f64 = edges.iter().map(|edge| edge.requests().get()).sum();
        // The planner smooths the demand; twice what is seen is beyond any smoothing.
        said.penalty > Millis::ZERO || said.capacity.get() < 2.0 * demand * (reserve + 1.0) / 100.0
    }

    /// There is a rollout to sit out.
    fn rolls_out(&self, violations: &mut Vec<Violation>) {
        let backends = self.host.backends.iter();
        let mut workloads = backends.filter_map(|id| self.ground.workloads.get(id));
        if !workloads.any(|workload| workload.rollout == Rollout::InProgress) {
            violations.push(self.false_claim("the rollout"));
        }
    }

    /// A decay goes towards the replica-proportional split, every zone named.
    fn decays(&self, violations: &mut Vec<Violation>) {
        let Some(shares) = &self.shares else { return };
        let goal = with_reserve(&self.ground.zones, shares, 1.0);
        for (caller, after) in self.to {
            let Some(before) = self.from.get(caller) else { continue };
            let distance = |distribution: &Distribution| -> f64 {
                goal.iter().map(|(z, p)| (f64::from(distribution.weight(z)) - p).abs()).sum()
            };
            // The goal in whole numbers lies up to a point away from it on each zone.
            let away = distance(after) > distance(before) + points(goal.len());
            if away && self.subzones.as_ref().is_none_or(|s| drifts(s, shares, before, after)) {
                let (host, caller) = (self.name(), caller.clone());
                violations.push(Violation::WrongDirection { host, caller });
            }
        }
    }

    /// A cover names what is missing with a small weight and drops what is gone; there
    /// must be something of either.
    fn covers(&self, violations: &mut Vec<Violation>) {
        let zones = &self.ground.zones;
        let small = self.ground.policy.balancer.reserve.get().ceil().max(1.0);
        let ruled = match &self.host.rule {
            Rule::Ours(table) => Some(table),
            Rule::None | Rule::Foreign(_) => None,
        };
        let complete = |table: &RouteTable| {
            table.len() == zones.len()
                && zones.iter().all(|caller| {
                    table.get(*caller).is_some_and(|distribution| {
                        distribution.iter().count() == zones.len()
                            && zones.iter().all(|zone| distribution.weight(zone) > 0)
                    })
                })
        };
        if ruled.is_none_or(complete) {
            violations.push(Violation::NothingToCover { host: self.name() });
            return;
        }
        if ruled.is_some_and(|table| self.is_other_grain(table)) {
            self.rereads(violations);
            return;
        }
        for (caller, after) in self.to {
            let Some(before) = ruled.and_then(|table| table.get(caller)) else {
                // A caller zone that is new goes on as the mesh splits without a rule.
                if !self.is_default(caller, after) {
                    let (host, caller) = (self.name(), caller.clone());
                    violations.push(Violation::CoverTooWide { host, caller });
                }
                continue;
            };
            let (mut gone, mut added, mut rise, mut fall) = (0.0, 0.0, 0.0, 0.0);
            let named: BTreeSet<_> = before.iter().chain(after.iter()).map(|(z, _)| z).collect();
            let mut small_enough = true;
            for zone in named {
                let (b, a) = (f64::from(before.weight(zone)), f64::from(after.weight(zone)));
                if !zones.contains(zone) {
                    gone += b;
                } else if b <= 0.0 {
                    added += a;
                    small_enough &= a <= small;
                } else {
                    rise += (a - b).max(0.0);
                    fall += (b - a).max(0.0);
                }
            }
            // A zone that is gone leaves its weight to the others; a caller of whom
            // nothing else is left has no split to keep.
            let nothing_left = gone >= 100.0;
            if !nothing_left && (!small_enough || rise > gone + EXACT || fall > added + EXACT) {
                let (host, caller) = (self.name(), caller.clone());
                violations.push(Violation::CoverTooWide { host, caller });
            }
        }
    }

    /// Whether a table is between zones where it is to be between nodes, or the other way round.
    fn is_other_grain(&self, table: &RouteTable) -> bool {
        let fine = |zone: &ZoneName| zone.node().is_some();
        let wanted = self.ground.zones.iter().any(|zone| fine(zone));
        table.keys().any(|zone| fine(zone) != wanted)
    }

    /// Said anew between other places, zones get what they got of the callers of each zone, to
    /// the points that naming every place takes.
    fn rereads(&self, violations: &mut Vec<Violation>) {
        let slack = 2.0 * points(self.ground.zones.len());
        for (caller, after) in self.to {
            let rows = self.from.iter().filter(|(from, _)| from.domain() == caller.domain());
            let rows: Vec<&Distribution> = rows.map(|(_, row)| row).collect();
            let mut gap: BTreeMap<&str, f64> = BTreeMap::new();
            for (zone, weight) in after.iter() {
                *gap.entry(zone.domain()).or_default() += f64::from(weight);
            }
            // The weight of a zone that is gone is shared by the others in proportion.
            let stands = |zone: &ZoneName| {
                self.ground.zones.iter().any(|place| place.domain() == zone.domain())
            };
            let before = || {
                let all = rows.iter().flat_map(|row| row.iter());
                all.filter(|(zone, _)| stands(zone)).map(|(zone, weight)| (zone, f64::from(weight)))
            };
            let total: f64 = before().map(|(_, weight)| weight).sum();
            for (zone, weight) in before() {
                *gap.entry(zone.domain()).or_default() -= 100.0 * weight / total;
            }
            let moved: f64 = gap.values().map(|gap| gap.abs()).sum();
            let kept = if total > 0.0 { moved <= slack } else { self.is_default(caller, after) };
            if !kept {
                let (host, caller) = (self.name(), caller.clone());
                violations.push(Violation::CoverTooWide { host, caller });
            }
        }
    }

    /// An undo writes what stood before the last write, repaired where zones have come
    /// or gone since; callers that had no weights then keep theirs.
    fn restores(&self, violations: &mut Vec<Violation>) {
        let remembered = self.ground.memory.hosts.get(&self.host.name);
        let before = remembered.and_then(|memory| memory.before.as_ref());
        let restored = before.is_some_and(|before| {
            self.to.iter().all(|(caller, after)| {
                let then = before.get(caller).or_else(|| self.from.get(caller));
                then.is_some_and(|then| is_repair(then, after, &self.ground.zones))
            })
        });
        if !restored {
            violations.push(Violation::NotWhatStoodBefore { host: self.name() });
        }
    }
}

/// Whether what zones really get goes away from the shares of replicas, by more than
/// rounding up can do. Weights may: those that come nearest are not the shares. And what
/// zones get may, where weight is led away from a zone without endpoints; not both.
fn drifts(
    subzones: &Subzones<'_>,
    shares: &BTreeMap<&ZoneName, f64>,
    before: &Distribution,
    after: &Distribution,
) -> bool {
    let distance = |row: &Distribution| -> f64 {
        let real = subzones.percentages(row);
        real.iter().map(|(zone, p)| (p - shares.get(zone).unwrap_or(&0.0)).abs()).sum()
    };
    distance(after) > distance(before) + points(shares.len()) + subzones.rounding()
}

/// Whether `stated` is `ruled`, or `ruled` with the zones that are gone left out and
/// those that are new named by a point each.
fn is_repair(ruled: &Distribution, stated: &Distribution, zones: &BTreeSet<&ZoneName>) -> bool {
    if ruled == stated {
        return true;
    }
    let gone: u32 =
        ruled.iter().filter(|(z, _)| !zones.contains(z)).map(|(_, w)| u32::from(w)).sum();
    let new = zones.iter().filter(|zone| ruled.weight(zone) == 0).count();
    if gone == 0 && new == 0 {
        return false;
    }
    let new = u32::try_from(new).unwrap_or(u32::MAX);
    ruled.iter().filter(|(zone, _)| zones.contains(zone)).all(|(zone, weight)| {
        let (before, after) = (u32::from(weight), u32::from(stated.weight(zone)));
        after <= before + gone && after + new >= before
    })
}

/// Percentages with at least `reserve` for each zone, the others scaled to make room.
fn with_reserve<'a>(
    zones: &BTreeSet<&'a ZoneName>,
    shares: &BTreeMap<&ZoneName, f64>,
    reserve: f64,
) -> BTreeMap<&'a ZoneName, f64> {
    let share = |zone: &ZoneName| shares.get(zone).copied().unwrap_or(0.0);
    let mut held: BTreeSet<&ZoneName> = BTreeSet::new();
    loop {
        let left = 100.0 - reserve * points(held.len());
        let rest: f64 = zones.iter().filter(|z| !held.contains(*z)).map(|z| share(z)).sum();
        let scale = if rest > 0.0 { left / rest } else { 0.0 };
        let below: Vec<_> = zones
            .iter()
            .filter(|zone| !held.contains(*zone) && share(zone) * scale < reserve)
            .copied()
            .collect();
        if below.is_empty() || held.len() == zones.len() {
            let value = |zone| if held.contains(zone) { reserve } else { share(zone) * scale };
            return zones.iter().map(|zone| (*zone, value(*zone))).collect();
        }
        held.extend(below);
    }
}

/// A number of zones as percentage points.
fn points(zones: usize) -> f64 {
    u32::try_from(zones).map_or(f64::MAX, f64::from)
}
