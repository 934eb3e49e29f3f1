//! Simulated annealing over placements.
//!
//! A step takes a container of a service with traffic to a machine where a partner
//! runs (or home, or anywhere). Where there is no room, other containers are sent away
//! to make some: to the machine just left, to where they came from, or to a machine
//! with room. The step is kept or taken back as a whole. Every move away from the
//! origin costs the price; a container of one service is as good as another, so what
//! is priced is the distance between the counts, and going home is paid back.

use super::{
    facts::Facts,
    layout::{Layout, sound},
    random::Random,
    terrain::{Shift, Terrain},
};

/// How one annealing goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cooling {
    pub(crate) steps: u64,
    /// Temperatures, in worth.
    pub(crate) hot: f64,
    pub(crate) cold: f64,
    /// Worth that one move must bring.
    pub(crate) price: f64,
    /// Most moves from the origin.
    pub(crate) most_moves: u32,
    /// What each move above the most costs more than the one before.
    pub(crate) slope: f64,
    /// Worth that a move off the way to the goal must bring.
    pub(crate) detour: f64,
    /// Only steps whose single moves are feasible one after the other: what is reached
    /// can be reached, but swaps on full machines are not seen.
    pub(crate) careful: bool,
    /// Price at the end, when what is left of the budget is filled.
    pub(crate) last_price: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Away {
    moves: i32,
    goal: i32,
}

impl Cooling {
    /// What is paid in all for that many moves.
    fn bill(&self, moves: u32, price: f64) -> f64 {
        let over = f64::from(moves.saturating_sub(self.most_moves));
        let within = f64::from(moves.min(self.most_moves));
        price * within + self.price * over + over * over * 0.5 * self.slope
    }

    /// What a move costs at a price, and where its service asks for more, at that.
    fn cost(&self, moves: u32, away: Away, price: f64, own: f64) -> f64 {
        let detour = self.detour * f64::from(away.moves + away.goal);
        if away.moves == 0 {
            return detour;
        }
        let after = moves.saturating_add_signed(away.moves);
        let dearer = (own - price).max(0.0) * f64::from(away.moves);
        detour + dearer + self.bill(after, price) - self.bill(moves, price)
    }
}

/// Who is to come to a machine.
#[derive(Debug, Clone, Copy)]
struct Guest {
    service: usize,
    container: usize,
    from: usize,
    to: usize,
}

impl Guest {
    const fn shift(self) -> Shift {
        Shift { service: self.service, from: self.from, to: self.to }
    }
}

/// Who leaves it, and where to.
#[derive(Debug, Clone, Copy)]
struct Victim {
    container: usize,
    shift: Shift,
    worth: f64,
    away: Away,
}

/// Most containers that are sent away for one that comes.
const EJECTED: usize = 4;

/// Annealing from an origin.
pub(crate) struct Annealer<'a, T> {
    facts: &'a Facts,
    /// Where it begins.
    start: &'a T,
    terrain: T,
    pub(crate) layout: Layout,
    /// Counts by machine and service from which distance is measured.
    origin: Vec<u16>,
    /// Counts that later moves lead to; empty for none.
    goal: Vec<u16>,
    pub(crate) worth: f64,
    /// Distance from the origin.
    pub(crate) moves: u32,
    /// Of a move within the budget, at this moment.
    price: f64,
    trail: Vec<(u32, u32)>,
    edges: Edges,
    pub(crate) random: Random,
}

impl<'a, T: Terrain> Annealer<'a, T> {
    pub(crate) fn new(facts: &'a Facts, start: &'a T, seed: u64) -> Self {
        let layout = Layout::today(facts);
        let origin = counts(facts, &layout);
        let worth = start.worth(facts, &layout);
        Self {
            facts,
            start,
            terrain: start.clone(),
            layout,
            origin,
            goal: Vec::new(),
            worth,
            moves: 0,
            price: 0.0,
            trail: Vec::new(),
            edges: Edges::new(facts),
            random: Random::new(seed),
        }
    }

    /// Distance counts from here on.
    pub(crate) fn settle(&mut self) {
        self.origin = counts(self.facts, &self.layout);
        self.moves = 0;
    }

    pub(crate) fn restart(&mut self) {
        self.layout = Layout::today(self.facts);
        self.terrain = self.start.clone();
        self.worth = self.terrain.worth(self.facts, &self.layout);
        self.settle();
    }

    /// The layout reached is where later moves will lead.
    pub(crate) fn aim(&mut self) {
        self.goal = counts(self.facts, &self.layout);
    }

    pub(crate) fn run(&mut self, cooling: Cooling, enough: &mut dyn FnMut() -> bool) -> bool {
        if self.edges.is_empty() {
            return true;
        }
        // Short runs cool in steps as fine.
        let chunk_len = (cooling.steps / 64).clamp(1, 256);
        let chunks = cooling.steps.div_ceil(chunk_len);
        let ratio = cooling.cold / cooling.hot;
        for chunk in 0..chunks {
            if enough() {
                return false;
            }
            let cold = chunk + chunks / 16 >= chunks;
            let temperature = cooling.hot * ratio.powf(chunk as f64 / chunks as f64);
            self.price = if cold { cooling.last_price } else { cooling.price };
            let temperature = if cold { 0.0 } else { temperature };
            for _ in 0..chunk_len {
                self.step(temperature, &cooling);
            }
        }
        true
    }

    fn step(&mut self, temperature: f64, cooling: &Cooling) {
        let facts = self.facts;
        let least = -temperature * self.random.exponential();
        let (service, partner) = self.edges.draw(&mut self.random);
        let container = self.draw_container(service);
        let from = self.layout.machine_of(container);
        let to = match self.random.below(16) {
            0 => self.random.below(facts.machines),
            1..=2 => facts.today[self.draw_container(service)] as usize,
            _ => {
                let companion = self.draw_container(partner);
                self.layout.machine_of(companion)
            }
        };
        if !self.allowed(Shift { service, from, to }) {
            return;
        }
        let guest = Guest { service, container, from, to };
        let (worth, away) = (self.gain(guest.shift()), self.away(guest.shift()));
        let change = worth - self.cost(service, away, cooling);
        if self.layout.fits(facts, service, to) {
            if change >= least {
                self.go(container, guest.shift(), worth, away);
                self.stay();
            }
            return;
        }
        if change + cooling.price + temperature < least {
            return;
        }
        let before = (self.worth, self.moves);
        if self.make_room(guest, (worth, away), change, least, cooling) {
            self.stay();
        } else {
            self.undo(before);
        }
    }

    /// Sends others away for a guest, who comes first and overbooks the machine, or
    /// last. Whether all of it together is worth it.
    fn make_room(
        &mut self,
        guest: Guest,
        (worth, away): (f64, Away),
        mut change: f64,
        least: f64,
        cooling: &Cooling,
    ) -> bool {
        let facts = self.facts;
        let before = self.moves;
        if !cooling.careful {
            self.go(guest.container, guest.shift(), worth, away);
        }
        let mut made = false;
        for _ in 0..EJECTED {
            let Some(victim) = self.victim(guest, cooling) else { break };
            change += victim.worth - self.cost(victim.shift.service, victim.away, cooling);
            self.go(victim.container, victim.shift, victim.worth, victim.away);
            made = if cooling.careful {
                self.layout.fits(facts, guest.service, guest.to)
            } else {
                sound(self.layout.free(guest.to))
            };
            if made || change + cooling.price < least {
                break;
            }
        }
        if made && cooling.careful {
            // What left may have been a partner: the guest is worth something else now.
            let own = facts.price[guest.service];
            change -= worth - cooling.cost(before, away, self.price, own);
            let (worth, away) = (self.gain(guest.shift()), self.away(guest.shift()));
            change += worth - self.cost(guest.service, away, cooling);
            made = self.allowed(guest.shift());
            if made {
                self.go(guest.container, guest.shift(), worth, away);
            }
        }
        made && change >= least
    }

    fn gain(&mut self, shift: Shift) -> f64 {
        self.terrain.gain(self.facts, &self.layout, shift)
    }

    fn cost(&self, service: usize, away: Away, cooling: &Cooling) -> f64 {
        cooling.cost(self.moves, away, self.price, self.facts.price[service])
    }

    fn go(&mut self, container: usize, shift: Shift, worth: f64, away: Away) {
        self.worth += self.terrain.go(shift, worth);
        self.layout.shift(self.facts, container, shift.to);
        self.trail.push((container as u32, shift.from as u32));
        self.moves = self.moves.wrapping_add_signed(away.moves);
    }

    fn stay(&mut self) {
        self.trail.clear();
        self.terrain.keep();
    }

    fn undo(&mut self, (worth, moves): (f64, u32)) {
        while let Some((container, from)) = self.trail.pop() {
            self.layout.shift(self.facts, container as usize, from as usize);
            self.terrain.back();
        }
        (self.worth, self.moves) = (worth, moves);
    }

    /// Somebody on the machine of a guest that can go elsewhere, best of a few.
    fn victim(&mut self, guest: Guest, cooling: &Cooling) -> Option<Victim> {
        let facts = self.facts;
        let mut best: Option<(f64, Victim)> = None;
        for _ in 0..3 {
            let residents = self.layout.residents(guest.to);
            if residents.is_empty() {
                return None;
            }
            let container = residents[self.random.below(residents.len())] as usize;
            let service = self.layout.service_of(container);
            if service == guest.service {
                continue;
            }
            let home = facts.today[self.draw_container(service)] as usize;
            let anywhere = self.random.below(facts.machines);
            for to in [guest.from, home, anywhere] {
                let shift = Shift { service, from: guest.to, to };
                if !self.allowed(shift) || !self.layout.fits(facts, service, to) {
                    continue;
                }
                let (worth, away) = (self.gain(shift), self.away(shift));
                let change = worth - self.cost(service, away, cooling);
                if best.as_ref().is_none_or(|(known, _)| change > *known) {
                    best = Some((change, Victim { container, shift, worth, away }));
                }
            }
        }
        best.map(|(_, found)| found)
    }

    /// How many moves further from the origin a shift leads.
    fn away(&self, Shift { service, from, to }: Shift) -> Away {
        let at = |machine: usize| machine * self.facts.services + service;
        let left = self.layout.count(self.facts, service, from);
        let entered = self.layout.count(self.facts, service, to);
        let against = |counts: &[u16]| {
            i32::from(entered >= counts[at(to)]) - i32::from(left > counts[at(from)])
        };
        Away {
            moves: against(&self.origin),
            goal: if self.goal.is_empty() { 0 } else { against(&self.goal) },
        }
    }

    fn allowed(&self, shift: Shift) -> bool {
        self.layout.allowed_again(self.facts, &self.terrain, shift, &self.origin)
    }

    fn draw_container(&mut self, service: usize) -> usize {
        let containers = self.facts.containers(service);
        containers.start + self.random.below(containers.len())
    }
}

fn counts(facts: &Facts, layout: &Layout) -> Vec<u16> {
    (0..facts.machines).flat_map(|machine| layout.row(facts, machine).iter().copied()).collect()
}

/// Draws edges, heavy ones more often.
#[derive(Debug)]
struct Edges {
    ends: Vec<(u32, u32)>,
    /// Running sums of the weights, in units of 1 / 2^32 of the total.
    bounds: Vec<u64>,
    /// First edge for each of the equal parts of the total.
    guide: Vec<u32>,
}

impl Edges {
    fn new(facts: &Facts) -> Self {
        let mut ends = Vec::new();
        let mut weights = Vec::new();
        for a in 0..facts.services {
            for partner in facts.partners(a) {
                if facts.pinned[a]
                    || facts.containers(a).is_empty()
                    || facts.containers(partner.service as usize).is_empty()
                {
                    continue;
                }
                ends.push((a as u32, partner.service));
                weights.push(partner.traffic.sqrt());
            }
        }
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let bounds: Vec<u64> = weights
            .iter()
            .map(|weight| {
                sum += weight;
                (sum / total * (1u64 << 32) as f64) as u64
            })
            .collect();
        let parts = ends.len().max(1);
        let guide = (0..parts)
            .map(|part| {
                let from = ((part as u64) << 32) / parts as u64;
                bounds.partition_point(|bound| *bound <= from) as u32
            })
            .collect();
        Self { ends, bounds, guide }
    }

    fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn draw(&self, random: &mut Random) -> (usize, usize) {
        let drawn = random.next() >> 32;
        let part = (drawn * self.guide.len() as u64) >> 32;
        let mut at = (self.guide[part as usize] as usize).min(self.ends.len() - 1);
        while at + 1 < self.ends.len() && self.bounds[at] <= drawn {
            at += 1;
        }
        let (a, b) = self.ends[at];
        (a as usize, b as usize)
    }
}
