//! stub
use super::keyspace::Databases;
use crate::base::rng::Rng;
use crate::config::Config;
use crate::object::access::AccessClock;
#[derive(Default)]
pub struct Pool;
pub fn time_limit_us(_t: u32) -> u64 {
    500
}
pub fn choose(
    _d: &mut Databases,
    _p: &mut Pool,
    _c: &Config,
    _k: &AccessClock,
    _r: &mut Rng,
) -> Option<(u32, Vec<u8>)> {
    None
}
