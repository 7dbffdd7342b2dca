//! What a node of a cluster does with the keys of a slot as a whole.

use crate::base::slot::Slot;
use crate::config::NotifyFlags;
use crate::exec::io::Io;
use crate::exec::server::Server;

/// Keys that are named at a time.
const BATCH: usize = 256;

impl Server {
    /// Deletes the keys of a slot that another node has now, as if they had been deleted one by one. Gives how many there
    /// were.
    pub fn drop_slot(&mut self, io: &mut dyn Io, slot: Slot) -> usize {
        let lazily = self.config.lazyfree_lazy_server_del;
        let word: &[u8] = if lazily { b"UNLINK" } else { b"DEL" };
        let mut dropped = 0;
        loop {
            let names = self.dbs.db(0).slot_keys(slot, BATCH);
            if names.is_empty() {
                return dropped;
            }
            for name in &names {
                let mut keys = self.keys(0);
                keys.remove(name);
                keys.signal_modified(name);
                keys.event(NotifyFlags::GENERIC, "del", name);
                keys.unit.dirty += 1;
                self.unit.push(0, &[word, name]);
                self.end_unit(io);
            }
            dropped += names.len();
        }
    }

    /// The data was loaded: the cluster's machine hears which slots have keys, so that none are here without a reason.
    pub fn tell_populated_slots(&mut self) {
        if self.cluster.is_none() {
            return;
        }
        let slots = self.populated_slots();
        if let Some(cluster) = self.cluster.as_deref_mut() {
            cluster.found_keys_in(slots.into_iter());
        }
    }

    /// The slots that have any keys.
    pub fn populated_slots(&self) -> Vec<Slot> {
        let keys = self.dbs.db(0);
        Slot::all()
            .filter(|&slot| keys.slot_len(slot) > 0)
            .collect()
    }
}
