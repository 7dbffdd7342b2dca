//! Where the operations of a finished unit go: to the append only file, and to the replicas.
//!
//! ```text
//! a command          cmd::unit::Ops: encoded once         exec::aof, a buffer
//! changes keys  ---> [SET a 1][DEL b]              --->   MULTI, SELECT 0, SET ..., EXEC
//!                    ^ gathered only if wanted      \-->  the replication stream likewise
//! ```

use crate::cmd::unit::Ops;
use crate::exec::aof::State;
use crate::exec::server::Server;

impl Server {
    /// Whether units are to gather their operations; to be asked again when a log or a replica comes or goes, and when
    /// loading begins or ends.
    pub fn note_who_listens(&mut self) {
        self.unit.wanted = !self.loading && self.aof.state != State::Off;
    }

    /// Hands the unit's operations to the log and to the replicas.
    pub fn publish_log(&mut self) {
        let Some(ops) = self.unit.take() else {
            return;
        };
        if self.aof.state != State::Off {
            let stamp_s = self.config.aof_timestamp_enabled.then(|| self.now.s());
            self.aof.feed(&ops, stamp_s);
        }
        self.feed_replicas(&ops);
        self.unit.recycle(ops);
    }

    /// Hands a unit's operations to the replicas. (There are none yet.)
    fn feed_replicas(&mut self, _: &Ops) {}
}
