//! Following a master: what the link's machine ([`crate::repl::replica`]) says is to be done, done.
//!
//! ```text
//! REPLICAOF        set_master, unset_master: the roles change, the link begins or ends
//! a link's news    connected, bytes, closed: told to the machine; once the stream flows, bytes are commands
//! the job's end    sync_done: the keyspace that was received takes the place of the old one
//! once a second    follow_cron: time-outs, another try, and how far we are
//! ```
//! How a full sync gets into memory is in `server/receive.rs`. While it does, clients hear what their configuration says: the
//! data of before, or an error.

use std::any::Any;

use bytes::Bytes;

use crate::base::planted::{self, Bug};
use crate::cmd::Fault;
use crate::cmd::session::{Marks, Token};
use crate::cmd::unit::Selected;
use crate::config::{ReplDisklessLoad, ReplicaOf};
use crate::db::keyspace::Databases;
use crate::exec::conn::Why;
use crate::exec::following::{FailoverStage, Following, Sync, Way};
use crate::exec::inlet::Inlet;
use crate::exec::io::{Io, Setting};
use crate::exec::link::{News, Owner, Target};
use crate::exec::persistence::{Errand, Loading};
use crate::exec::server::{Effect, Server};
use crate::repl::replica::{Action, Facts, Place, Replica};
use crate::script::library::Policy;
use crate::server::load::Source;
use crate::server::receive::{Intake, Loader, Outcome, Received, ToFile};

/// What may lie between the link and the job that reads it.
const INLET_BYTES: usize = 4 * 1024 * 1024;

/// Of refusals, which are about one a second, the log hears of the first and then of one in so many.
const REFUSALS_LOGGED: u64 = 60;

const UNBLOCKED: &str =
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";

impl Server {
    /// Tells the link's machine of something; what is to be done then.
    fn with_link(
        &mut self,
        f: impl FnOnce(&mut Replica, u64, &Facts<'_>, &mut Vec<Action>),
    ) -> Vec<Action> {
        let mut out = Vec::new();
        let to_parser = self.way_of_sync() != Way::File;
        let config = &self.config;
        let failing_over = (self.repl.failover.as_ref())
            .is_some_and(|failover| failover.stage == FailoverStage::InProgress);
        if let (Some(following), Some(master)) = (&mut self.repl.following, &config.replicaof) {
            let host = master.host.lossy();
            let facts = Facts {
                host: &host,
                port: master.port,
                user: config.masteruser.as_bytes(),
                password: config.masterauth.as_bytes(),
                own_port: match config.replica_announce_port {
                    0 if config.tls_replication && config.tls_port != 0 => config.tls_port,
                    0 => config.port,
                    port => port,
                },
                own_ip: config.replica_announce_ip.as_bytes(),
                timeout_s: config.repl_timeout,
                failing_over,
                to_parser,
            };
            f(&mut following.link, self.now.ms(), &facts, &mut out);
        }
        out
    }

    /// How the data of a full sync would get into memory, as things are.
    fn way_of_sync(&self) -> Way {
        match self.config.repl_diskless_load {
            ReplDisklessLoad::Swapdb => Way::Swap,
            ReplDisklessLoad::OnEmptyDb if self.dbs.is_empty() => Way::Parser,
            _ => Way::File,
        }
    }

    /// Does what the machine says.
    fn do_for_link(&mut self, io: &mut dyn Io, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Connect => self.call_master(),
                Action::Close => self.hang_up(),
                Action::Send(bytes) => self.say_to_master(&bytes),
                Action::Full => self.prepare_sync(io),
                Action::Begin(size) => self.begin_sync(io, size),
                Action::Data(bytes) => self.pass_on(bytes),
                Action::Whole => self.all_received(io),
                Action::GiveUp => self.give_sync_up(io),
                Action::Continue(id) => self.go_on_with_master(io, id),
                Action::HandedOver(true) => self.end_failover(),
                Action::HandedOver(false) => {
                    self.abort_failover(io, "Failover target rejected psync request");
                }
            }
        }
    }

    fn call_master(&mut self) {
        let Some(ReplicaOf { host, port }) = &self.config.replicaof else {
            return;
        };
        let target = Target {
            host: host.lossy().into_owned(),
            port: *port,
            source: self.config.bind_source_addr.lossy().into_owned(),
            tls: self.config.tls_replication,
        };
        let token = self.open_link(Owner::Master, target);
        if let Some(following) = &mut self.repl.following {
            following.token = Some(token);
            following.held = false;
        }
    }

    /// Lets go of the connection to the master; what was read and not applied is forgotten.
    fn hang_up(&mut self) {
        let Some(following) = &mut self.repl.following else {
            return;
        };
        following.raw.clear();
        following.read = following.link.place().map_or(0, |place| place.offset);
        if let Some(token) = following.token.take() {
            self.close_link(token);
        }
    }

    fn say_to_master(&mut self, bytes: &[u8]) {
        let Some(token) = self.repl.following.as_ref().and_then(|f| f.token) else {
            return;
        };
        if let Some(conn) = self.conns.get_mut(token) {
            conn.write_push(|reply| reply.raw(bytes));
            self.wants_write(token);
        }
    }

    /// Nothing is read from the link for a while, or again.
    pub(crate) fn hold_link(&mut self, held: bool) {
        let now_ms = self.now.ms();
        let Some(following) = &mut self.repl.following else {
            return;
        };
        following.link.hold(now_ms, held);
        following.held = held;
        if let Some(token) = following.token
            && let Some(conn) = self.conns.get_mut(token)
        {
            conn.session.marks.set(Marks::NOT_READ, held);
            if !held {
                self.reread.push(token);
            }
        }
    }

    /// The link's news.
    pub(crate) fn hear_master(&mut self, io: &mut dyn Io, token: Token, news: News<'_>) {
        let is_ours = |f: &Following| f.token == Some(token);
        if !self.repl.following.as_deref().is_some_and(is_ours) {
            return;
        }
        match news {
            News::Connected => {
                let actions = self.with_link(|link, now, _, out| link.connected(now, out));
                self.do_for_link(io, actions);
            }
            News::Data(data) => self.hear_bytes(io, token, data),
            News::Closed(why) => {
                if let Some(following) = &mut self.repl.following {
                    following.token = None;
                    following.raw.clear();
                    following.read = following.link.place().map_or(0, |place| place.offset);
                }
                let actions = self.with_link(|link, now, facts, out| {
                    link.closed(now, facts, why.as_deref(), out)
                });
                self.do_for_link(io, actions);
            }
        }
    }

    fn hear_bytes(&mut self, io: &mut dyn Io, token: Token, data: &[u8]) {
        let mut used = 0;
        let actions =
            self.with_link(|link, now, facts, out| used = link.receive(now, facts, data, out));
        self.stats.net_repl_input += used as u64;
        self.do_for_link(io, actions);
        let rest = &data[used..];
        if rest.is_empty() || self.conns.get(token).is_none_or(|c| c.link.is_none()) {
            return;
        }
        if self.link_is_up() {
            if self.feed(io, token, rest) {
                // The first turn's share was used up: another turn comes.
                self.reread.push(token);
            }
        } else if let Some(conn) = self.conns.get_mut(token) {
            // It follows the data that is being loaded.
            conn.input.extend_from_slice(rest);
        }
    }

    /// The link's commands are run from here on.
    fn adopt_master(&mut self, token: Token) {
        self.adopt_link(token);
        let place = self.repl.following.as_ref().and_then(|f| f.link.place());
        let (db, offset) = place.map_or((0, 0), |place| (place.db, place.offset));
        let databases = self.dbs.count() as u32;
        if let Some(conn) = self.conns.get_mut(token) {
            conn.session.db = if db < databases { db } else { 0 };
            let silent = Marks::REPLY_OFF | Marks::DENY_BLOCKING;
            conn.session.marks.set(silent, true);
            conn.kept = conn.reply.mark();
        }
        if let Some(following) = &mut self.repl.following {
            following.read = offset;
        }
    }

    /// The master has what we lack of its stream.
    fn go_on_with_master(&mut self, io: &mut dyn Io, id: Option<String>) {
        io.tell_supervisor(
            "STATUS=MASTER <-> REPLICA sync: Partial Resynchronization accepted. Ready to accept connections in read-write mode.",
        );
        if let Some(id) = id {
            self.repl.history.rename(&id);
            // They have to hear of the new ID.
            self.disconnect_replicas();
        }
        self.repl.history.keep_backlog();
        self.note_who_listens();
        if let Some(token) = self.repl.following.as_ref().and_then(|f| f.token) {
            self.adopt_master(token);
        }
    }

    /// A full sync is promised: the file for it has to be there before it begins.
    fn prepare_sync(&mut self, io: &mut dyn Io) {
        let way = self.way_of_sync();
        self.repl.syncs += 1;
        let serial = self.repl.syncs;
        let guarded = self.config.replica_refuse_empty_master && !self.dbs.is_empty();
        let file = match way {
            Way::File => {
                let temp = format!("temp-{}.{}.rdb", self.now.s(), self.process.pid);
                let temp = self.config.dir.as_path().join(temp);
                match io.disk().create(&temp) {
                    Ok(file) => Some((file, temp)),
                    Err(e) => {
                        log::warn!(
                            "Opening the temp file needed for MASTER <-> REPLICA synchronization: {}",
                            crate::base::errno::text(&e)
                        );
                        let actions = self.with_link(|link, _, _, out| link.refused(out));
                        return self.do_for_link(io, actions);
                    }
                }
            }
            Way::Parser | Way::Swap => None,
        };
        if let Some(following) = &mut self.repl.following {
            following.sync = Some(Sync {
                serial,
                way,
                inlet: Inlet::new(INLET_BYTES, io.wake()),
                file,
                started: false,
                guarded,
            });
        }
    }

    /// The data begins to come: a job takes it.
    fn begin_sync(&mut self, io: &mut dyn Io, size: Option<u64>) {
        let progress = self.load_progress();
        let dbs = self.dbs.fresh();
        let source = match self.sync().map(|sync| sync.way) {
            Some(Way::File) => Source::MastersFile,
            _ => Source::Socket,
        };
        let reader = self.reader(source, false);
        let config = &self.config;
        let remove = config.rdb_del_sync_files && config.save.is_empty() && !config.appendonly;
        let (dir, target) = (config.dir.as_path().to_path_buf(), config.rdb_path());
        let Some(sync) = self.sync_mut().filter(|sync| !sync.started) else {
            return;
        };
        sync.started = true;
        let file = sync.file.take().map(|(file, temp)| ToFile {
            file,
            disk: io.disk(),
            dir,
            temp,
            target,
            remove,
        });
        let intake = Intake {
            serial: sync.serial,
            inlet: sync.inlet.clone(),
            loader: Loader {
                reader,
                progress: progress.clone(),
                dbs,
                guarded: sync.guarded,
            },
            file,
        };
        let way = sync.way;
        let loading = Loading {
            progress,
            total_bytes: size.unwrap_or(0),
            started_s: self.now.s(),
            started_ns: io.mono_ns(),
        };
        match way {
            // It is loaded once it is there.
            Way::File => self.repl.to_load = Some(loading),
            Way::Parser | Way::Swap => self.make_way(loading, way),
        }
        let work = move || -> Box<dyn Any + Send> { Box::new(intake.run()) };
        self.effects
            .push(Effect::Start(Errand::Receive, Box::new(work)));
    }

    fn sync(&self) -> Option<&Sync> {
        self.repl.following.as_ref()?.sync.as_ref()
    }

    fn sync_mut(&mut self) -> Option<&mut Sync> {
        self.repl.following.as_mut()?.sync.as_mut()
    }

    /// What is loaded now needs the room of what is there, or stands beside it until it is exchanged.
    fn make_way(&mut self, loading: Loading, way: Way) {
        let pid = self.process.pid;
        if self.persistence.saving.is_some() {
            if way == Way::File {
                log::info!(
                    "Replica is about to load the RDB file received from the master, but there is a pending RDB child running. Killing process {pid} and removing its temp file to avoid any race"
                );
            }
            self.cancel_save();
        }
        let guarded = self.sync().is_some_and(|sync| sync.guarded);
        if way == Way::Swap {
            let link = self.repl.following.as_ref().map(|f| &f.link);
            let same = link.and_then(|l| l.syncing_to()).is_some_and(|(id, _)| {
                // What is there is the same data at another time.
                id == self.repl.history.id()
            });
            self.async_loading = same;
            self.loading = !same;
        } else {
            self.loading = true;
            if !guarded {
                self.leave_old_master();
            }
            log::info!("MASTER <-> REPLICA sync: Flushing old data");
            self.empty_for_sync(guarded);
        }
        log::info!("MASTER <-> REPLICA sync: Loading DB in memory");
        self.persistence.loading = Some(loading);
        self.note_who_listens();
    }

    /// The data of before goes: to the freeing thread, or to the job, which frees it before it loads (`replica-lazy-flush
    /// no`) or at the first key.
    fn empty_for_sync(&mut self, guarded: bool) {
        let empty = self.dbs.fresh();
        for db in 0..self.dbs.count() as u32 {
            self.watch.touch_flushed(db, &self.dbs);
            self.signal_waiting(db);
        }
        self.tell_flushed();
        self.own_ttls.clear();
        let before = std::mem::replace(&mut self.dbs, empty);
        if self.config.replica_lazy_flush && !guarded {
            let keys = before.len();
            self.free_later(Box::new(before), keys);
        } else if let Some(sync) = self.sync_mut() {
            sync.inlet.leave_before(before);
        }
    }

    /// The data will be another master's: nobody can go on from what was.
    fn leave_old_master(&mut self) {
        if let Some(following) = &mut self.repl.following
            && !planted::on(Bug::OldPlaceKept)
        {
            following.link.forget_place();
        }
        self.disconnect_replicas();
        if planted::on(Bug::OldBacklogKept) {
            return;
        }
        if let Some(backlog) = self.repl.history.drop_backlog() {
            self.free_later(Box::new(backlog), 1);
        }
        self.note_who_listens();
    }

    fn pass_on(&mut self, bytes: Bytes) {
        if let Some(sync) = self.sync_mut().filter(|sync| sync.started)
            && sync.inlet.put(bytes)
        {
            self.hold_link(true);
        }
    }

    /// The job has caught up: the link is read again.
    pub fn refill_sync(&mut self) {
        let full = |sync: &Sync| !sync.inlet.has_room() || sync.inlet.has_ended();
        let held = self.repl.following.as_ref().is_some_and(|f| f.held);
        if held && self.sync().is_some_and(|sync| !full(sync)) {
            self.hold_link(false);
        }
    }

    /// True if a job could not run to its end now, because it waits for what has yet to come.
    pub fn receives(&self) -> bool {
        self.sync()
            .is_some_and(|sync| sync.started && !sync.inlet.has_ended())
    }

    fn all_received(&mut self, io: &mut dyn Io) {
        self.hold_link(true);
        if let Some(mut loading) = self.repl.to_load.take() {
            let transfer = (self.repl.following.as_ref()).and_then(|f| f.link.transfer());
            let read = transfer.map_or(0, |t| t.read);
            loading.total_bytes = u64::try_from(read).unwrap_or(0);
            loading.started_s = self.now.s();
            loading.started_ns = io.mono_ns();
            self.make_way(loading, Way::File);
        }
        if let Some(sync) = self.sync() {
            sync.inlet.finish();
        }
    }

    /// No more comes: the job ends, and says so.
    fn give_sync_up(&mut self, io: &mut dyn Io) {
        if let Some(sync) = self.sync().filter(|sync| sync.started) {
            sync.inlet.break_off();
            return;
        }
        self.forget_sync(io);
        let actions = self.with_link(|link, now, facts, out| link.stopped(now, facts, out));
        self.do_for_link(io, actions);
    }

    /// Lets go of a sync under way, if there is one; its job ends by itself, and nobody hears of it.
    fn forget_sync(&mut self, io: &mut dyn Io) {
        let Some(sync) = (self.repl.following.as_mut()).and_then(|f| f.sync.take()) else {
            return;
        };
        sync.inlet.break_off();
        if let Some((_, temp)) = sync.file {
            // It was never written to.
            let _ = io.disk().unlink(&temp);
        }
        self.end_loading();
    }

    fn end_loading(&mut self) {
        self.repl.to_load = None;
        self.persistence.loading = None;
        (self.loading, self.async_loading) = (false, false);
        self.note_who_listens();
    }

    /// The job is over.
    pub(super) fn sync_done(
        &mut self,
        io: &mut dyn Io,
        outcome: Result<Box<dyn Any + Send>, String>,
    ) {
        let received = outcome
            .ok()
            .and_then(|value| value.downcast::<Received>().ok());
        let serial = received.as_ref().map(|r| r.serial);
        let following = self.repl.following.as_mut();
        let Some(sync) = following.and_then(|f| {
            f.sync
                .take_if(|sync| sync.started && serial.is_none_or(|serial| serial == sync.serial))
        }) else {
            return;
        };
        if let Some(loading) = &self.persistence.loading {
            let progress = loading.progress.clone();
            self.note_loaded(&progress);
        }
        self.end_loading();
        match received.map(|r| r.outcome) {
            Some(Outcome::Loaded(dbs, mark)) => {
                match self.take_libraries(io, &mark, Policy::Flush) {
                    Ok(()) => self.sync_loaded(io, &sync, dbs, mark.db.unwrap_or(0)),
                    Err(_) => self.full_sync_failed(io, &sync),
                }
            }
            Some(Outcome::Empty) => self.refuse_empty(io, &sync),
            Some(Outcome::Failed) | None => self.full_sync_failed(io, &sync),
        }
    }

    fn sync_loaded(&mut self, io: &mut dyn Io, sync: &Sync, dbs: Databases, db: u32) {
        let link = self.repl.following.as_ref().map(|f| &f.link);
        let Some((id, offset)) = link
            .and_then(|link| link.syncing_to())
            .map(|(id, offset)| (id.to_string(), offset))
        else {
            return;
        };
        if sync.way == Way::Swap {
            log::info!("MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
        }
        if sync.way == Way::Swap || sync.guarded {
            self.leave_old_master();
        }
        self.exchange(dbs);
        if sync.way == Way::Swap {
            log::info!("MASTER <-> REPLICA sync: Discarding old DB in background");
        }
        if sync.way != Way::File {
            self.dirty += 1;
        }
        let mut unmarked = true;
        self.with_link(|link, now, _, _| unmarked = !link.loaded(now, db));
        self.take_over_history(&id, offset);
        log::info!("MASTER <-> REPLICA sync: Finished with success");
        io.tell_supervisor(
            "STATUS=MASTER <-> REPLICA sync: Finished with success. Ready to accept connections in read-write mode.",
        );
        self.restart_log(io);
        let Some(token) = self.repl.following.as_ref().and_then(|f| f.token) else {
            // It was lost meanwhile.
            let actions =
                self.with_link(|link, now, facts, out| link.closed(now, facts, None, out));
            return self.do_for_link(io, actions);
        };
        self.adopt_master(token);
        if !unmarked {
            self.send_ack();
        }
        // What came behind the data is the stream.
        let behind = self.conns.get(token).map_or(0, |conn| conn.input.len());
        self.stream_read(token, behind);
        self.resumable.push(token);
        self.hold_link(false);
    }

    /// The stream is the master's now, whose data we have.
    fn take_over_history(&mut self, id: &str, offset: i64) {
        let history = &mut self.repl.history;
        if offset < 0 {
            // It does not count: nobody can go on from here.
            history.change_id(&mut self.rng);
            history.forget_second();
        } else {
            history.adopt(id, offset);
        }
        history.keep_backlog();
        self.note_who_listens();
    }

    /// Puts a keyspace in the place of the one that is there.
    fn exchange(&mut self, dbs: Databases) {
        for db in 0..self.dbs.count() as u32 {
            self.watch.touch_flushed(db, &self.dbs);
            self.signal_waiting(db);
        }
        self.tell_flushed();
        self.own_ttls.clear();
        let before = std::mem::replace(&mut self.dbs, dbs);
        let keys = before.len();
        if keys > 0 {
            self.free_later(Box::new(before), keys);
        }
    }

    fn full_sync_failed(&mut self, io: &mut dyn Io, sync: &Sync) {
        if let Some(before) = sync.inlet.take_before() {
            self.exchange(before);
        }
        if sync.way == Way::Swap {
            log::info!("MASTER <-> REPLICA sync: Discarding temporary DB in background");
        }
        let actions = self.with_link(|link, now, facts, out| link.stopped(now, facts, out));
        self.do_for_link(io, actions);
    }

    /// `replica-refuse-empty-master`: the master has lost its data, and must not take ours from us.
    fn refuse_empty(&mut self, io: &mut dyn Io, sync: &Sync) {
        if let Some(before) = sync.inlet.take_before() {
            self.exchange(before);
        }
        let refusals = (self.repl.following.as_mut()).map_or(0, |following| {
            following.refusals += 1;
            following.refusals
        });
        if refusals % REFUSALS_LOGGED == 1 {
            log::warn!(
                "MASTER <-> REPLICA sync: the master has no data, and this replica has {} keys: refused (replica-refuse-empty-master). Still serving the data of before, and trying again.",
                self.dbs.len()
            );
        }
        let actions = self.with_link(|link, _, _, out| link.refused(out));
        self.do_for_link(io, actions);
    }

    /// Once a second: time-outs, another try, and how far we are.
    pub(super) fn follow_cron(&mut self, io: &mut dyn Io) {
        // (At the start the own file is loaded first.)
        let starting = self.loading && !self.receiving();
        if self.config.replicaof.is_none() || starting {
            return;
        }
        if self.repl.following.is_none() {
            self.repl.following = Some(Box::new(Following::new(None)));
        }
        let actions = self.with_link(Replica::tick);
        self.do_for_link(io, actions);
        self.send_ack();
    }

    fn receiving(&self) -> bool {
        self.sync().is_some()
    }

    /// REPLICAOF: follows this master from now on.
    pub fn set_master(&mut self, io: &mut dyn Io, host: &[u8], port: u16) {
        let was_master = self.config.replicaof.is_none();
        let place = self.leave_master(io);
        self.disconnect_blocked();
        self.end_migrations();
        self.config.replicaof = Some(ReplicaOf {
            host: host.into(),
            port,
        });
        self.role_changed(io);
        if was_master {
            let history = &self.repl.history;
            self.follow_from(Place {
                id: history.id().to_string(),
                offset: history.offset(),
                db: 0,
            });
        } else {
            self.repl.following = Some(Box::new(Following::new(place)));
        }
        // (A node of a cluster finds out whom it follows before it has loaded its data: cron connects it once it has.)
        if !self.persistence.starting || planted::on(Bug::FollowsBeforeLoaded) {
            let actions = self.with_link(Replica::connect);
            self.do_for_link(io, actions);
        }
    }

    /// REPLICAOF NO ONE: is a master from now on.
    pub fn unset_master(&mut self, io: &mut dyn Io) {
        if self.config.replicaof.take().is_none() {
            return;
        }
        if self.leave_master(io).is_some() {
            log::info!("Discarding previously cached master state.");
        }
        let repl = &mut self.repl;
        repl.history.part(&mut self.rng);
        // What comes first is to say where it belongs.
        repl.selected = Selected::default();
        repl.master.alone_since_s = self.now.s();
        self.disconnect_replicas();
        self.role_changed(io);
        self.note_who_listens();
    }

    /// Ends the link; where it was in the stream.
    fn leave_master(&mut self, io: &mut dyn Io) -> Option<Place> {
        if self.link_is_up() {
            log::info!("Connection with master lost.");
            log::info!("Caching the disconnected master state.");
        }
        self.forget_sync(io);
        self.hang_up();
        let following = self.repl.following.take()?;
        following.link.place().cloned()
    }

    fn role_changed(&mut self, io: &mut dyn Io) {
        for setting in [Setting::Role, Setting::OomScoreAdj] {
            if let Err(why) = io.apply(setting, &self.config) {
                log::warn!("{why}");
            }
        }
    }

    /// Clients that wait for what a replica cannot give them are sent away.
    fn disconnect_blocked(&mut self) {
        // (Those that have yet to run will hear at the gate what a replica says to them.)
        let waits = |why: &Why| !matches!(why, Why::Paused | Why::Held | Why::Migrates);
        let tokens: Vec<Token> = self
            .conns
            .iter()
            .filter(|(_, c)| c.parked.as_deref().is_some_and(|p| waits(&p.why)))
            .map(|(token, _)| token)
            .collect();
        for token in tokens {
            self.give_up(token, Some(Fault::new(UNBLOCKED)));
            self.close_after_reply(token);
        }
    }
}
