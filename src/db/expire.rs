//! stub
use super::keyspace::Databases;
use crate::object::Entry;
pub enum Kind {
    Fast,
    Slow,
}
#[derive(Default)]
pub struct Cycle;
impl Cycle {
    pub fn budget_us(&self, _k: Kind, _effort: u32, _hz: u32) -> u64 {
        1000
    }
    pub fn step(&mut self, _dbs: &mut Databases, _now: u64, _gone: &mut Vec<(u32, Entry)>) -> bool {
        false
    }
}
