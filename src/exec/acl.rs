//! Users and their rights, as the server asks for them: before a command runs, and when a user changes.
//!
//! Each session holds the user it is logged in as. Most may do everything, which is one bit of the session's marks
//! ([`Marks::LIMITED`]), so that nothing else is asked. A user who changes is a new value in the old one's place: all
//! sessions of the old one are given the new one at once, and those who listen to what it may no longer are closed.
//! Sessions of a user who is deleted are closed. Who has no user at all (the link to a master, the loading of a log) may
//! do everything.

use std::io::Read;
use std::path::PathBuf;
use std::rc::Rc;

use crate::acl::log::{Context, Event, Log};
use crate::acl::{Basis, Denied, KeyUse, Reason, Request, User, Users};
use crate::base::errno;
use crate::cmd::session::{Marks, Session};
use crate::cmd::spec::Flags;
use crate::cmd::{Args, Fault};
use crate::config::{AclPubsubDefault, Config, Text};
use crate::exec::conn::{Conn, Token};
use crate::exec::io::Io;
use crate::exec::server::Server;
use crate::exec::table::{CommandId, Table, keys_of};

/// All users, and what they were denied.
#[derive(Debug)]
pub struct Acl {
    pub users: Users,
    pub log: Log,
}

impl Acl {
    /// The default user alone.
    pub fn new(table: &Table, config: &Config) -> Acl {
        Acl {
            users: Users::new(table, &config.requirepass),
            log: Log::default(),
        }
    }
}

/// What rules stand on.
pub fn basis<'a>(table: &'a Table, config: &Config) -> Basis<'a> {
    Basis {
        commands: table,
        all_channels: config.acl_pubsub_default == AclPubsubDefault::Allchannels,
    }
}

impl Table {
    /// Whether a user may run a command with these arguments (the first is its name).
    pub fn may_run(&self, user: &User, id: CommandId, argv: &[&[u8]]) -> Result<(), Denied> {
        if user.is_unlimited() {
            return Ok(());
        }
        let command = self.get(id);
        let find_keys = || match command.has_keys() {
            true => keys_of(command, argv).unwrap_or_default(),
            false => Vec::new(),
        };
        let find_keys = || find_keys().into_iter().map(KeyUse::from).collect();
        let mut request = Request::new(id, argv, &find_keys);
        request.free = command.flags.has(Flags::NO_AUTH);
        request.channels = command.channels;
        user.check(&request)
    }
}

impl Server {
    /// Whether the session of a connection may run a command with these arguments (the first is its name). Nothing is
    /// noted of a refusal, see [`Server::note_denied`].
    #[inline]
    pub fn may_run(&self, token: Token, id: CommandId, argv: &[&[u8]]) -> Result<(), Denied> {
        let limited = |c: &&Conn| c.session.marks.has(Marks::LIMITED);
        match self
            .conns
            .get(token)
            .filter(limited)
            .map(|c| c.session.user())
        {
            Some(Some(user)) => self.table.may_run(user, id, argv),
            _ => Ok(()),
        }
    }

    /// Counts a refusal and adds it to ACL LOG. What the client is to be told of it, with its code.
    #[cold]
    pub fn note_denied(
        &mut self,
        token: Token,
        id: CommandId,
        argv: &[&[u8]],
        denied: Denied,
        context: Context,
    ) -> Fault {
        let table = self.table.clone();
        let name = table.get(id).spec.name;
        let user = self.conns.get(token).and_then(|c| c.session.user());
        let user = user.map(|user| user.name().to_vec()).unwrap_or_default();
        let text = denied.text(&user, name, argv, false);
        let event = Event {
            reason: denied.reason,
            context,
            object: denied.object(name, argv).to_vec(),
            user,
        };
        self.note_acl_event(token, event, argv);
        Fault::text([b"NOPERM ", &text[..]].concat())
    }

    /// Where a command stands that a session runs: in a transaction or by itself.
    pub fn acl_context(&self, token: Token) -> Context {
        let in_multi = |c: &Conn| c.session.multi.is_some();
        match self.conns.get(token).is_some_and(in_multi) {
            true => Context::Multi,
            false => Context::TopLevel,
        }
    }

    /// Counts a refusal or a failed login of the client that runs this, and adds it to ACL LOG.
    pub fn note_acl_event(&mut self, token: Token, event: Event, argv: &[&[u8]]) {
        let count = match event.reason {
            Reason::Command => &mut self.stats.acl_denied_command,
            Reason::Key => &mut self.stats.acl_denied_key,
            Reason::Auth => &mut self.stats.acl_denied_auth,
            Reason::Channel => &mut self.stats.acl_denied_channel,
        };
        *count += 1;
        let client = self.client_line_running(token, &Args::new(argv, &[]));
        let most = self.config.acllog_max_len;
        self.acl.log.add(event, client, self.now.ms(), most);
    }

    /// True if a session has yet to log in.
    pub fn needs_login(&self, session: &Session) -> bool {
        !session.authenticated && self.acl.users.ask_for_login()
    }

    /// Makes a session one that has just begun: the default user's, logged in if there is nothing to ask.
    pub fn begin_as_default(&mut self, token: Token) {
        let user = self.acl.users.default_user().clone();
        let authenticated = !self.acl.users.ask_for_login();
        if let Some(conn) = self.conns.get_mut(token) {
            conn.session.set_user(Some(user));
            conn.session.authenticated = authenticated;
        }
    }

    /// The connections that are logged in as (or began as) this user.
    pub fn sessions_of(&self, user: &Rc<User>) -> Vec<Token> {
        let is_theirs = |c: &Conn| c.session.user().is_some_and(|u| Rc::ptr_eq(u, user));
        let all = self.conns.iter().filter(|(_, conn)| is_theirs(conn));
        all.map(|(token, _)| token).collect()
    }

    /// Puts a changed user, or a new one, in its place.
    pub fn put_user(&mut self, user: User) {
        let name = user.name().to_vec();
        let Some(old) = self.acl.users.put(user) else {
            return;
        };
        let Some(new) = self.acl.users.get(&name).cloned() else {
            return;
        };
        let keeps = new.keeps_channels_of(&old);
        for token in self.sessions_of(&old) {
            let Some(conn) = self.conns.get_mut(token) else {
                continue;
            };
            conn.session.set_user(Some(new.clone()));
            if !keeps && !conn.session.marks.has(Marks::REPLICA) && overhears(&conn.session, &new) {
                self.end_session(token);
            }
        }
    }

    /// Sets the password of the default user (`requirepass`).
    pub fn set_default_password(&mut self, password: &[u8]) {
        let mut user = User::clone(self.acl.users.default_user());
        user.set_only_password(password);
        self.put_user(user);
    }

    /// Takes a user away and closes its connections; `false` if there is none of this name, or it is the default user.
    pub fn delete_user(&mut self, name: &[u8]) -> bool {
        let Some(user) = self.acl.users.remove(name) else {
            return false;
        };
        self.end_sessions_of(&user);
        true
    }

    /// Puts other users in the place of all there are (ACL LOAD). The default user stays the same one, whatever it may
    /// now; everybody else has to log in again.
    pub fn replace_users(&mut self, users: Users) {
        let old = std::mem::replace(&mut self.acl.users, users);
        let default = self.acl.users.default_user().clone();
        for user in old.iter() {
            if !Rc::ptr_eq(user, old.default_user()) {
                self.end_sessions_of(user);
            }
        }
        for token in self.sessions_of(old.default_user()) {
            if let Some(conn) = self.conns.get_mut(token) {
                conn.session.set_user(Some(default.clone()));
            }
        }
    }

    /// The users that the ACL file describes, or what is wrong with it.
    pub fn read_users(&self, io: &dyn Io) -> Result<Users, Vec<u8>> {
        let name = &self.config.aclfile;
        let mut text = Vec::new();
        let opened = io.disk().open(&self.acl_path());
        let read = opened.and_then(|(mut file, _)| file.read_to_end(&mut text));
        read.map_err(|error| {
            let (name, why) = (name.lossy(), errno::text(&error));
            format!("Error loading ACLs, opening file '{name}': {why}").into_bytes()
        })?;
        Users::read(&text, &name.lossy(), basis(&self.table, &self.config))
    }

    /// Where the ACL file is.
    pub fn acl_path(&self) -> PathBuf {
        self.config
            .dir
            .as_path()
            .join(self.config.aclfile.as_path())
    }

    /// Takes the users of the configuration or of its ACL file. `Err`: the start is given up, for this reason.
    pub fn load_users_at_start(&mut self, io: &dyn Io) -> Result<(), String> {
        let has_file = !self.config.aclfile.is_empty();
        if has_file && !self.config.user.is_empty() {
            return Err("Configuring Redis with users defined in redis.conf and at the same setting an ACL file path \
                        is invalid. This setup is very likely to lead to configuration errors and security holes, \
                        please define either an ACL file or declare users directly in your redis.conf, but not both."
                .into());
        }
        let as_bytes = |words: &Vec<Text>| words.iter().map(|w| w.to_vec()).collect();
        let lines: Vec<Vec<Vec<u8>>> = self.config.user.iter().map(as_bytes).collect();
        let lines: Vec<Vec<&[u8]>> = lines
            .iter()
            .map(|words| words.iter().map(Vec::as_slice).collect())
            .collect();
        let basis = basis(&self.table, &self.config);
        if let Err(why) = self.acl.users.add_configured(&lines, basis) {
            log::warn!("{why}");
            return Err("Critical error while loading ACLs. Exiting.".into());
        }
        if has_file {
            self.acl.users = self.read_users(io).map_err(|errors| {
                let errors = String::from_utf8_lossy(&errors);
                format!("Aborting Redis startup because of ACL errors: {errors}")
            })?;
        }
        Ok(())
    }

    /// Closes the connections of a user who is no more.
    fn end_sessions_of(&mut self, user: &Rc<User>) {
        let default = self.acl.users.default_user().clone();
        for token in self.sessions_of(user) {
            if let Some(conn) = self.conns.get_mut(token) {
                conn.session.set_user(Some(default.clone()));
                conn.session.authenticated = false;
            }
            self.end_session(token);
        }
    }

    /// Closes a connection; one whose command runs has its reply first.
    fn end_session(&mut self, token: Token) {
        match self.current == Some(token) {
            true => self.close_after_reply(token),
            false => self.doom(token),
        }
    }
}

/// True if a session listens to what its user may not.
fn overhears(session: &Session, user: &User) -> bool {
    session.subs.as_deref().is_some_and(|subs| {
        let mut names = subs.channels.iter().chain(&subs.shard_channels);
        subs.patterns
            .iter()
            .any(|pattern| !user.allows_channel(pattern, true))
            || names.any(|name| !user.allows_channel(name, false))
    })
}
