//! The loop of the simulation: takes what happens next from the agenda and lets it
//! happen.

use stornx_core::units::Timestamp;

use super::{
    Notice,
    agenda::{Entry, Kind, LIFE_MASK},
    state::World,
};

impl World {
    /// Lets time pass until `until`, or until the first notice when `stop` says so.
    pub(crate) fn run(&mut self, until: Timestamp, stop: bool) -> Vec<Notice> {
        let until = Self::nanos_of(until);
        loop {
            if stop && !self.notices.is_empty() {
                break;
            }
            let Some(entry) = self.agenda.next(until) else {
                self.now = self.now.max(until);
                break;
            };
            self.now = entry.at;
            self.handle(entry);
        }
        std::mem::take(&mut self.notices)
    }

    #[inline]
    fn handle(&mut self, entry: Entry) {
        let Entry { kind, handle, life, .. } = entry;
        match kind {
            Kind::Reach if self.lives(handle, life) => self.reach(handle),
            Kind::WorkDone if self.lives(handle, life) => self.work_done(handle),
            Kind::Answer if self.lives(handle, life) => self.answer(handle),
            Kind::Retry if self.lives(handle, life) => self.retry(handle),
            Kind::ConnectFailed if self.lives(handle, life) => self.connect_failed(handle),
            Kind::PodReady if self.same_process(handle, life) => self.pod_ready(handle),
            Kind::GraceOver if self.same_process(handle, life) => self.grace_over(handle),
            Kind::Arrival => self.arrival(handle),
            Kind::Timeout => self.timeout(handle),
            Kind::MeasureStart => self.measure_start(),
            Kind::Happening => self.happen(handle),
            Kind::Control => self.control(),
            Kind::Scrape => self.scrape(),
            Kind::Autoscale => self.autoscale(),
            Kind::Piece => self.piece(),
            Kind::Sample => self.sample(),
            // Void: what was meant is not there any more.
            Kind::Reach
            | Kind::WorkDone
            | Kind::Answer
            | Kind::Retry
            | Kind::ConnectFailed
            | Kind::PodReady
            | Kind::GraceOver => {}
        }
    }

    #[inline]
    fn lives(&self, call: u32, life: u32) -> bool {
        self.calls[call as usize].life == life
    }

    fn same_process(&self, pod: u32, life: u32) -> bool {
        self.pods[pod as usize].life & LIFE_MASK == life
    }
}
