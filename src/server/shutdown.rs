//! Ending the server.

use crate::config::ShutdownFlags;
use crate::server::server::Server;

impl Server {
    /// Begins to shut down; the error says why it can't be done now.
    pub fn begin_shutdown(&mut self, _flags: ShutdownFlags) -> Result<(), String> {
        log::info!("User requested shutdown...");
        log::warn!("Redis is now ready to exit, bye bye...");
        self.exiting = Some(0);
        Ok(())
    }
}
