//! stub
use super::keyspace::Databases;
#[derive(Default)]
pub struct WatchTable;
impl WatchTable {
    pub fn touch(&mut self, _db: u32, _key: &[u8]) {}
    pub fn watch(&mut self, _id: u64, _db: u32, _key: &[u8], _expired: bool) {}
    pub fn unwatch_all(&mut self, _id: u64) {}
    pub fn is_dirty(&self, _id: u64) -> bool {
        false
    }
    pub fn any_expired(&self, _id: u64, _dbs: &Databases, _now: u64) -> bool {
        false
    }
}
