//! From one placement to another by single moves, best saving per move first.
//!
//! Every state on the way is feasible: a move is made only when its machine has room
//! and its service keeps its spread. Partners pay only when they meet, so moves are
//! chosen in bundles: for each machine that is to receive containers, those that come
//! and, while there is no room, those that leave, in the order of their worth; the
//! bundle (and the length of it) with the best worth per move goes first.
//!
//! Where everything waits for everything (a swap on full machines), a container that
//! must leave anyway waits on a third machine with room, for one move more. Where there
//! is no such machine, the rest of the way is given up: the moves made so far stand.

use super::{
    facts::Facts,
    layout::{Layout, give, holds},
    terrain::{Shift, Terrain},
};

/// Moves `layout` towards the counts of `goal` and adds the moves to `list`, at most
/// until `list` holds `most` of them. `terrain` stands at `layout`. False when the way was
/// blocked.
pub(crate) fn lead(
    facts: &Facts,
    terrain: &mut impl Terrain,
    layout: &mut Layout,
    goal: &Layout,
    most: usize,
    list: &mut Vec<Shift>,
) -> bool {
    let mut way = Way::new(facts, terrain, layout, goal);
    let mut detours = way.left();
    while list.len() < most && way.left() > 0 {
        let bundle = way.best_bundle();
        if bundle.is_empty() {
            let waits = if detours == 0 { Vec::new() } else { way.wait() };
            if waits.is_empty() {
                return false;
            }
            detours -= 1;
            for shift in waits {
                way.go(shift);
                list.push(shift);
            }
            continue;
        }
        for shift in bundle {
            if list.len() >= most {
                return true;
            }
            way.go(shift);
            list.push(shift);
        }
    }
    true
}

struct Way<'a, T> {
    facts: &'a Facts,
    terrain: &'a mut T,
    layout: &'a mut Layout,
    goal: &'a Layout,
    /// By service: machines with too many, and machines with too few.
    surplus: Vec<Vec<u32>>,
    deficit: Vec<Vec<u32>>,
    /// By machine: services of which it has too many, and too few.
    leaving: Vec<Vec<u32>>,
    coming: Vec<Vec<u32>>,
    /// By machine: the best known bundle, until something near it changes.
    known: Vec<Option<(f64, Vec<Shift>)>>,
    left: usize,
}

impl<'a, T: Terrain> Way<'a, T> {
    fn new(facts: &'a Facts, terrain: &'a mut T, layout: &'a mut Layout, goal: &'a Layout) -> Self {
        let mut way = Self {
            facts,
            terrain,
            layout,
            goal,
            surplus: vec![Vec::new(); facts.services],
            deficit: vec![Vec::new(); facts.services],
            leaving: vec![Vec::new(); facts.machines],
            coming: vec![Vec::new(); facts.machines],
            known: vec![None; facts.machines],
            left: 0,
        };
        for machine in 0..facts.machines {
            for service in 0..facts.services {
                let excess = way.excess(service, machine);
                way.left += usize::try_from(excess).unwrap_or(0);
                way.list(service, machine);
            }
        }
        way
    }

    fn excess(&self, service: usize, machine: usize) -> i32 {
        i32::from(self.layout.count(self.facts, service, machine))
            - i32::from(self.goal.count(self.facts, service, machine))
    }

    /// Keeps the four lists right for one count.
    fn list(&mut self, service: usize, machine: usize) {
        let excess = self.excess(service, machine);
        put(&mut self.surplus[service], machine, excess > 0);
        put(&mut self.deficit[service], machine, excess < 0);
        put(&mut self.leaving[machine], service, excess > 0);
        put(&mut self.coming[machine], service, excess < 0);
    }

    /// Containers that are not yet where they shall be.
    fn left(&self) -> usize {
        self.left
    }

    fn go(&mut self, shift: Shift) {
        let before = self.excess(shift.service, shift.from).max(0)
            + self.excess(shift.service, shift.to).max(0);
        self.shift(shift);
        self.terrain.keep();
        let after = self.excess(shift.service, shift.from).max(0)
            + self.excess(shift.service, shift.to).max(0);
        self.left = (self.left as i64 + i64::from(after - before)).max(0) as usize;
        self.forget(shift);
    }

    /// Bundles that a move may have changed: those of its machines, and those that
    /// take the same service.
    fn forget(&mut self, shift: Shift) {
        for machine in 0..self.facts.machines {
            let touched = machine == shift.from
                || machine == shift.to
                || self.known[machine].as_ref().is_none_or(|(_, shifts)| {
                    shifts.is_empty()
                        || shifts.iter().any(|other| {
                            other.service == shift.service
                                || [other.from, other.to]
                                    .iter()
                                    .any(|place| *place == shift.from || *place == shift.to)
                        })
                });
            if touched {
                self.known[machine] = None;
            }
        }
    }

    fn shift(&mut self, shift: Shift) {
        let gain = self.terrain.gain(self.facts, self.layout, shift);
        self.terrain.go(shift, gain);
        self.place(shift);
    }

    /// Takes the last shift back.
    fn unshift(&mut self, shift: Shift) {
        self.terrain.back();
        self.place(shift.reversed());
    }

    fn place(&mut self, shift: Shift) {
        self.layout.shift_one(self.facts, shift);
        self.list(shift.service, shift.from);
        self.list(shift.service, shift.to);
    }

    /// The moves that bring most worth per move; empty when no move is possible.
    fn best_bundle(&mut self) -> Vec<Shift> {
        let mut best: Option<(f64, usize)> = None;
        for machine in 0..self.facts.machines {
            if self.coming[machine].is_empty() {
                continue;
            }
            if self.known[machine].is_none() {
                self.known[machine] = Some(self.bundle(machine));
            }
            if let Some((ratio, shifts)) = &self.known[machine]
                && !shifts.is_empty()
                && best.is_none_or(|(known, _)| *ratio > known)
            {
                best = Some((*ratio, machine));
            }
        }
        let found = best.and_then(|(_, machine)| self.known[machine].take());
        found.map_or_else(Vec::new, |(_, shifts)| shifts)
    }

    /// Tries what a machine waits for and takes it back.
    fn bundle(&mut self, machine: usize) -> (f64, Vec<Shift>) {
        let mut shifts = Vec::new();
        let mut gained = 0.0;
        let mut best = (f64::NEG_INFINITY, 0);
        while shifts.len() < LONGEST {
            let Some((worth, shift)) = self.arrival(machine).or_else(|| self.departure(machine))
            else {
                break;
            };
            self.shift(shift);
            shifts.push(shift);
            gained += worth;
            let ratio = gained / shifts.len() as f64;
            if ratio > best.0 {
                best = (ratio, shifts.len());
            }
        }
        for shift in shifts.iter().rev() {
            self.unshift(*shift);
        }
        shifts.truncate(best.1);
        (best.0, shifts)
    }

    /// The best move into a machine that has room for it.
    fn arrival(&mut self, machine: usize) -> Option<(f64, Shift)> {
        let mut best = None;
        for at in 0..self.coming[machine].len() {
            let service = self.coming[machine][at] as usize;
            self.consider_arrivals(&mut best, service, machine);
        }
        best
    }

    fn consider_arrivals(&mut self, best: &mut Option<(f64, Shift)>, service: usize, to: usize) {
        if !self.layout.fits(self.facts, service, to) {
            return;
        }
        for at in 0..self.surplus[service].len() {
            let from = self.surplus[service][at] as usize;
            self.consider(best, Shift { service, from, to });
        }
    }

    /// The best move out of a machine to where there is room for it.
    fn departure(&mut self, machine: usize) -> Option<(f64, Shift)> {
        let mut best = None;
        if self.coming[machine].is_empty() {
            return best;
        }
        for leaving in 0..self.leaving[machine].len() {
            let service = self.leaving[machine][leaving] as usize;
            for at in 0..self.deficit[service].len() {
                let to = self.deficit[service][at] as usize;
                if self.layout.fits(self.facts, service, to) {
                    self.consider(&mut best, Shift { service, from: machine, to });
                }
            }
        }
        best
    }

    fn consider(&mut self, best: &mut Option<(f64, Shift)>, shift: Shift) {
        if !self.layout.allowed(self.facts, self.terrain, shift) {
            return;
        }
        let worth = self.terrain.gain(self.facts, self.layout, shift);
        if best.is_none_or(|(known, _)| worth > known) {
            *best = Some((worth, shift));
        }
    }

    /// A container to a third machine with room: the one that loses least of those that
    /// must leave a machine where others wait; else one that is in the way, and then at
    /// once the one that it lets in.
    fn wait(&mut self) -> Vec<Shift> {
        let waited_for = |way: &Self| -> Vec<usize> {
            (0..way.facts.machines).filter(|m| !way.coming[*m].is_empty()).collect()
        };
        let mut best = None;
        for from in waited_for(self) {
            for at in 0..self.leaving[from].len() {
                let service = self.leaving[from][at] as usize;
                self.consider_waiting(&mut best, service, from);
            }
        }
        if let Some((_, shift)) = best {
            return vec![shift];
        }
        for from in waited_for(self) {
            for service in 0..self.facts.services {
                if self.layout.count(self.facts, service, from) > 0 && self.lets_in(service, from) {
                    self.consider_waiting(&mut best, service, from);
                }
            }
        }
        let Some((_, wait)) = best else { return Vec::new() };
        self.shift(wait);
        let mut arrival = None;
        for at in 0..self.coming[wait.from].len() {
            let service = self.coming[wait.from][at] as usize;
            if service != wait.service {
                self.consider_arrivals(&mut arrival, service, wait.from);
            }
        }
        self.unshift(wait);
        arrival.map_or_else(Vec::new, |(_, arrival)| vec![wait, arrival])
    }

    fn consider_waiting(&mut self, best: &mut Option<(f64, Shift)>, service: usize, from: usize) {
        for to in 0..self.facts.machines {
            if self.layout.fits(self.facts, service, to) {
                self.consider(best, Shift { service, from, to });
            }
        }
    }

    /// Whether one that waits for a machine fits once one of `service` has left it.
    fn lets_in(&self, service: usize, machine: usize) -> bool {
        let mut free = *self.layout.free(machine);
        give(&mut free, &self.facts.asked[service]);
        let waiting = self.coming[machine].iter().map(|waiting| *waiting as usize);
        waiting.filter(|w| *w != service).any(|w| holds(&free, &self.facts.asked[w]))
    }
}

/// Longest bundle that is tried. Machines hold tens of containers; a bundle that pays
/// only after more moves than that is better cut.
const LONGEST: usize = 64;

/// Makes a sorted list hold a number, or not.
fn put(list: &mut Vec<u32>, number: usize, held: bool) {
    match (list.binary_search(&(number as u32)), held) {
        (Err(at), true) => list.insert(at, number as u32),
        (Ok(at), false) => {
            list.remove(at);
        }
        _ => {}
    }
}
