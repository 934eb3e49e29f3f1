//! A placement while it changes: counts by machine and zone, free resources, and the
//! containers as lists from which one can be drawn in constant time.

use super::{
    facts::{Facts, Resources},
    terrain::{Shift, Terrain},
};

/// A placement while it changes.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Containers by machine and service.
    counts: Vec<u16>,
    /// Containers by zone and service.
    zone_counts: Vec<u32>,
    free: Vec<Resources>,
    /// By container.
    machine_of: Vec<u32>,
    /// By container: its place in the list of its machine.
    slot: Vec<u32>,
    /// By container.
    service_of: Vec<u32>,
    /// By machine: its containers.
    residents: Vec<Vec<u32>>,
}

impl Layout {
    pub(crate) fn today(facts: &Facts) -> Self {
        let mut layout = Self {
            counts: vec![0; facts.machines * facts.services],
            zone_counts: vec![0; facts.zones * facts.services],
            free: facts.capacity.clone(),
            machine_of: facts.today.clone(),
            slot: vec![0; facts.today.len()],
            service_of: vec![0; facts.today.len()],
            residents: vec![Vec::new(); facts.machines],
        };
        for service in 0..facts.services {
            for container in facts.containers(service) {
                let machine = facts.today[container] as usize;
                layout.service_of[container] = service as u32;
                layout.slot[container] = layout.residents[machine].len() as u32;
                layout.residents[machine].push(container as u32);
                layout.counts[machine * facts.services + service] += 1;
                layout.zone_counts[facts.zone[machine] as usize * facts.services + service] += 1;
                take(&mut layout.free[machine], &facts.asked[service]);
            }
        }
        layout
    }

    /// Whether all machines hold the same.
    pub(crate) fn same_counts(&self, other: &Self) -> bool {
        self.counts == other.counts
    }

    pub(crate) fn count(&self, facts: &Facts, service: usize, machine: usize) -> u16 {
        self.counts[machine * facts.services + service]
    }

    /// Counts of all services on a machine.
    pub(crate) fn row(&self, facts: &Facts, machine: usize) -> &[u16] {
        &self.counts[machine * facts.services..(machine + 1) * facts.services]
    }

    /// Counts of all services in a zone.
    pub(crate) fn zone_row(&self, facts: &Facts, zone: usize) -> &[u32] {
        &self.zone_counts[zone * facts.services..(zone + 1) * facts.services]
    }

    pub(crate) fn machine_of(&self, container: usize) -> usize {
        self.machine_of[container] as usize
    }

    pub(crate) fn service_of(&self, container: usize) -> usize {
        self.service_of[container] as usize
    }

    /// Containers on a machine.
    pub(crate) fn residents(&self, machine: usize) -> &[u32] {
        &self.residents[machine]
    }

    pub(crate) fn free(&self, machine: usize) -> &Resources {
        &self.free[machine]
    }

    /// Whether a machine has room for one more container of a service.
    pub(crate) fn fits(&self, facts: &Facts, service: usize, machine: usize) -> bool {
        holds(&self.free[machine], &facts.asked[service])
    }

    /// Whether a container may go from one machine to another, room aside.
    pub(crate) fn allowed(&self, facts: &Facts, terrain: &impl Terrain, shift: Shift) -> bool {
        self.suits(facts, shift.service, shift.to)
            && self.may_leave(facts, terrain, shift)
            && terrain.admits(shift.service, shift.to)
    }

    /// Whether a machine may hold one more container of a service, room aside.
    fn suits(&self, facts: &Facts, service: usize, machine: usize) -> bool {
        facts.compatible(service, machine)
            && u32::from(self.count(facts, service, machine)) < facts.per_machine[service]
    }

    /// As [`Self::allowed`], but a container may always take back a place that one of
    /// its service had in `origin`: not to have moved is never forbidden.
    pub(crate) fn allowed_again(
        &self,
        facts: &Facts,
        terrain: &impl Terrain,
        shift: Shift,
        origin: &[u16],
    ) -> bool {
        let Shift { service, to, .. } = shift;
        let was_there = || self.count(facts, service, to) < origin[to * facts.services + service];
        ((self.suits(facts, service, to) && terrain.admits(service, to)) || was_there())
            && self.may_leave(facts, terrain, shift)
    }

    fn may_leave(&self, facts: &Facts, terrain: &impl Terrain, shift: Shift) -> bool {
        let Shift { service, from, to } = shift;
        from != to
            && !facts.pinned[service]
            && self.spread_kept(facts, service, from, to)
            && terrain.may_change(facts, self, shift)
    }

    /// Containers of a service in each zone.
    pub(crate) fn by_zone<'a>(
        &'a self,
        facts: &'a Facts,
        service: usize,
    ) -> impl Iterator<Item = u32> + 'a {
        (0..facts.zones).map(move |zone| self.zone_counts[zone * facts.services + service])
    }

    fn spread_kept(&self, facts: &Facts, service: usize, from: usize, to: usize) -> bool {
        let (from, to) = (facts.zone[from] as usize, facts.zone[to] as usize);
        if from == to {
            return true;
        }
        let at = |zone: usize| zone * facts.services + service;
        if facts.spread[service].keep_zones
            && self.zone_counts[at(from)] == 1
            && facts.held[at(from)]
        {
            return false;
        }
        let limit = facts.skew[service];
        if limit == u32::MAX {
            return true;
        }
        let after = |zone: usize| {
            let now = self.zone_counts[at(zone)];
            if zone == from { now - 1 } else { now + u32::from(zone == to) }
        };
        let most = (0..facts.zones).map(after).max().unwrap_or(0);
        let least = (0..facts.zones).map(after).min().unwrap_or(0);
        most - least <= limit
    }

    /// Moves any one container of a service, if there is one.
    pub(crate) fn shift_one(&mut self, facts: &Facts, Shift { service, from, to }: Shift) {
        let there = |container: &usize| self.machine_of[*container] as usize == from;
        if let Some(container) = facts.containers(service).find(there) {
            self.shift(facts, container, to);
        }
    }

    /// Moves a container; its room and permission are the caller's affair.
    pub(crate) fn shift(&mut self, facts: &Facts, container: usize, to: usize) {
        let from = self.machine_of(container);
        let service = self.service_of(container);
        let slot = self.slot[container] as usize;
        self.residents[from].swap_remove(slot);
        if let Some(moved) = self.residents[from].get(slot) {
            self.slot[*moved as usize] = slot as u32;
        }
        self.slot[container] = self.residents[to].len() as u32;
        self.residents[to].push(container as u32);
        self.machine_of[container] = to as u32;
        self.counts[from * facts.services + service] -= 1;
        self.counts[to * facts.services + service] += 1;
        let zones = (facts.zone[from] as usize, facts.zone[to] as usize);
        if zones.0 != zones.1 {
            self.zone_counts[zones.0 * facts.services + service] -= 1;
            self.zone_counts[zones.1 * facts.services + service] += 1;
        }
        give(&mut self.free[from], &facts.asked[service]);
        take(&mut self.free[to], &facts.asked[service]);
    }
}

pub(crate) fn holds(free: &Resources, asked: &Resources) -> bool {
    // What is not asked for cannot be short, also on a machine that is overfull today.
    (asked.cpu == 0 || asked.cpu <= free.cpu)
        && (asked.memory == 0 || asked.memory <= free.memory)
        && asked.pods <= free.pods
}

/// Whether nothing is overbooked.
pub(crate) fn sound(free: &Resources) -> bool {
    free.cpu >= 0 && free.memory >= 0 && free.pods >= 0
}

pub(crate) fn take(free: &mut Resources, asked: &Resources) {
    free.cpu -= asked.cpu;
    free.memory -= asked.memory;
    free.pods -= asked.pods;
}

pub(crate) fn give(free: &mut Resources, asked: &Resources) {
    free.cpu += asked.cpu;
    free.memory += asked.memory;
    free.pods += asked.pods;
}
