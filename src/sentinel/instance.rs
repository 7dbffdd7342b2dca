//! What is watched: masters, their replicas, other Sentinels; and the links to them.
//!
//! A link is two connections, one for commands and one that listens to hello messages (other Sentinels have no second), and
//! all that tells whether the other side is alive. A Sentinel that watches several masters with us is several instances, but
//! one link: its liveness is one thing, and asking once is enough.

use std::collections::BTreeMap;

use super::addr::Addr;
use super::failover::Stage;
use super::state::{ConnId, Sentinel};

/// An instance's number. None is ever used again, so that a late answer finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub u64);

/// A link's number, likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Master,
    Replica,
    Sentinel,
}

impl Kind {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Master => "master",
            Kind::Replica => "slave",
            Kind::Sentinel => "sentinel",
        }
    }
}

/// The role that an instance says it has; an INFO may say none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    Master,
    Replica,
    Nothing,
}

/// How far a replica is with following the new master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconf {
    No,
    /// It was told.
    Sent,
    /// It says that it does.
    InProgress,
    /// And it has synchronized.
    Done,
}

/// What is known of a replica beyond other instances.
#[derive(Clone, Debug)]
pub struct AsReplica {
    /// Since when its link to its master is down, in ms; 0 if it is up.
    pub link_down_ms: i64,
    pub priority: i64,
    /// Clients are to hear of it (`replica-announced`).
    pub is_announced: bool,
    pub master_host: Option<String>,
    pub master_port: i64,
    pub link_up: bool,
    pub offset: u64,
    pub is_promoted: bool,
    pub reconf: Reconf,
    pub reconf_sent_ms: i64,
}

/// What is known of a master beyond other instances.
#[derive(Clone, Debug)]
pub struct AsMaster {
    pub replicas: BTreeMap<String, Id>,
    pub sentinels: BTreeMap<String, Id>,
    pub config_epoch: u64,
    pub quorum: u32,
    pub parallel_syncs: i64,
    pub failover_timeout_ms: i64,
    pub reboot_down_after_ms: i64,
    pub auth_pass: Option<Vec<u8>>,
    pub auth_user: Option<Vec<u8>>,
    pub notification_script: Option<Vec<u8>>,
    pub client_reconfig_script: Option<Vec<u8>>,
    /// By the usual name in capitals: that name as it was given, and what it is called there.
    pub renamed: BTreeMap<String, (Vec<u8>, Vec<u8>)>,
    pub o_down: bool,
    pub o_down_since_ms: i64,
    /// It came back as another process, without having been seen down: it may have lost its data.
    pub has_rebooted: bool,
    pub rebooted_ms: i64,
    pub stage: Stage,
    /// A failover was asked for: no votes are needed.
    pub is_forced: bool,
    pub stage_changed_ms: i64,
    pub failover_start_ms: i64,
    pub failover_epoch: u64,
    /// For which failover it was logged that the next has to wait.
    pub delay_logged_ms: i64,
    pub promoted: Option<Id>,
}

/// What is known of another Sentinel beyond other instances.
#[derive(Clone, Debug)]
pub struct AsSentinel {
    /// It says that the master is down.
    pub says_down: bool,
    pub last_hello_ms: i64,
    pub last_reply_ms: i64,
}

/// One that is watched. Of the last three parts, that of its kind counts.
#[derive(Clone, Debug)]
pub struct Instance {
    pub id: Id,
    pub kind: Kind,
    pub name: String,
    pub addr: Addr,
    /// The run ID of a server, the ID of a Sentinel.
    pub runid: Option<String>,
    pub link: LinkId,
    /// Whose replica it is, or which master it watches.
    pub master: Option<Id>,
    pub last_pub_ms: i64,
    pub s_down: bool,
    /// When it last was found down; 0 if never.
    pub s_down_since_ms: i64,
    pub down_after_ms: i64,
    /// A SCRIPT KILL was sent, since a script keeps it from answering.
    pub script_kill_sent: bool,
    /// When INFO last came; 0 if never.
    pub info_ms: i64,
    pub info: Option<Vec<u8>>,
    pub reported: Reported,
    pub reported_ms: i64,
    /// When the master that it says it follows last changed.
    pub conf_changed_ms: i64,
    /// Of a master: who has our vote. Of a Sentinel: who has its vote.
    pub leader: Option<String>,
    pub leader_epoch: u64,
    pub replica: AsReplica,
    pub watched: AsMaster,
    pub sentinel: AsSentinel,
}

impl Instance {
    /// True while a failover of this master is under way.
    pub fn in_failover(&self) -> bool {
        self.watched.stage != Stage::None
    }
}

/// The connections to an instance, and whether it answers. Times are 0 for "never".
#[derive(Clone, Debug)]
pub struct Link {
    /// How many instances share it.
    pub refs: u32,
    /// One of the connections is missing.
    pub disconnected: bool,
    /// Commands without an answer so far.
    pub pending: i64,
    pub commands: Option<ConnId>,
    pub pubsub: Option<ConnId>,
    pub commands_since_ms: i64,
    pub pubsub_since_ms: i64,
    pub pubsub_active_ms: i64,
    /// When it last answered as one that is well.
    pub avail_ms: i64,
    /// When the oldest PING was sent that has no answer; 0 if all have.
    pub act_ping_ms: i64,
    pub last_ping_ms: i64,
    pub last_pong_ms: i64,
    pub last_reconnect_ms: i64,
}

impl Link {
    /// Not connected yet. The time since which an answer is missing begins here.
    pub(super) fn new(now_ms: i64) -> Link {
        Link {
            refs: 1,
            disconnected: true,
            pending: 0,
            commands: None,
            pubsub: None,
            commands_since_ms: 0,
            pubsub_since_ms: 0,
            pubsub_active_ms: 0,
            avail_ms: now_ms,
            act_ping_ms: now_ms,
            last_ping_ms: 0,
            last_pong_ms: now_ms,
            last_reconnect_ms: 0,
        }
    }
}

/// Why an instance can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Duplicate,
    Name,
    Port,
}

impl Refused {
    /// Redis's words.
    pub fn text(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Refused::Duplicate, Kind::Master) => "Duplicate master name.",
            (Refused::Duplicate, Kind::Replica) => "Duplicate hostname and port for replica.",
            (Refused::Duplicate, Kind::Sentinel) => "Duplicate runid for sentinel.",
            (Refused::Name, _) => "Can't resolve instance hostname.",
            (Refused::Port, _) => "Invalid port number.",
        }
    }
}

impl AsReplica {
    fn new() -> AsReplica {
        AsReplica {
            link_down_ms: 0,
            priority: 100,
            is_announced: true,
            master_host: None,
            master_port: 0,
            link_up: false,
            offset: 0,
            is_promoted: false,
            reconf: Reconf::No,
            reconf_sent_ms: 0,
        }
    }
}

impl AsMaster {
    fn new(quorum: u32, failover_timeout_ms: i64) -> AsMaster {
        AsMaster {
            replicas: BTreeMap::new(),
            sentinels: BTreeMap::new(),
            config_epoch: 0,
            quorum,
            parallel_syncs: 1,
            failover_timeout_ms,
            reboot_down_after_ms: 0,
            auth_pass: None,
            auth_user: None,
            notification_script: None,
            client_reconfig_script: None,
            renamed: BTreeMap::new(),
            o_down: false,
            o_down_since_ms: 0,
            has_rebooted: false,
            rebooted_ms: 0,
            stage: Stage::None,
            is_forced: false,
            stage_changed_ms: 0,
            failover_start_ms: 0,
            failover_epoch: 0,
            delay_logged_ms: 0,
            promoted: None,
        }
    }
}

impl Sentinel {
    /// Watches one more: a master of this name, or a replica or Sentinel of a master. A replica's name is its address.
    pub fn add(
        &mut self,
        kind: Kind,
        name: &str,
        (host, port): (&str, i64),
        quorum: u32,
        master: Option<Id>,
    ) -> Result<Id, Refused> {
        let addr = self.make_addr(host, port, true).map_err(|bad| match bad {
            super::addr::BadAddr::Port => Refused::Port,
            super::addr::BadAddr::Name => Refused::Name,
        })?;
        let name = match kind {
            Kind::Replica => self.announced_with_port(&addr),
            _ => name.to_string(),
        };
        let down_after = master.and_then(|id| self.get(id)).map(|m| m.down_after_ms);
        let down_after_ms = down_after.unwrap_or(self.periods.default_down_after);
        let id = Id(self.next_number());
        let link = LinkId(self.next_number());
        let now_ms = self.now_ms;
        let Some(table) = self.table_of(kind, master) else {
            return Err(Refused::Duplicate);
        };
        if table.contains_key(&name) {
            return Err(Refused::Duplicate);
        }
        table.insert(name.clone(), id);
        self.links.insert(link, Link::new(now_ms));
        let instance = Instance {
            id,
            kind,
            name,
            addr,
            runid: None,
            link,
            master,
            last_pub_ms: now_ms,
            s_down: false,
            s_down_since_ms: 0,
            down_after_ms,
            script_kill_sent: false,
            info_ms: 0,
            info: None,
            reported: match kind {
                Kind::Master => Reported::Master,
                Kind::Replica => Reported::Replica,
                Kind::Sentinel => Reported::Nothing,
            },
            reported_ms: now_ms,
            conf_changed_ms: now_ms,
            leader: None,
            leader_epoch: 0,
            replica: AsReplica::new(),
            watched: AsMaster::new(quorum, self.periods.default_failover_timeout),
            sentinel: AsSentinel {
                says_down: false,
                last_hello_ms: now_ms,
                last_reply_ms: now_ms,
            },
        };
        self.instances.insert(id, instance);
        Ok(id)
    }

    fn table_of(&mut self, kind: Kind, master: Option<Id>) -> Option<&mut BTreeMap<String, Id>> {
        if kind == Kind::Master {
            return Some(&mut self.masters);
        }
        let watched = &mut self.instances.get_mut(&master?)?.watched;
        Some(match kind {
            Kind::Replica => &mut watched.replicas,
            _ => &mut watched.sentinels,
        })
    }

    /// Watches it no more, nor what belongs to it.
    pub fn remove(&mut self, id: Id) {
        for part in self
            .replicas_of(id)
            .into_iter()
            .chain(self.sentinels_of(id))
        {
            self.remove(part);
        }
        let Some(instance) = self.instances.remove(&id) else {
            return;
        };
        if let Some(table) = self.table_of(instance.kind, instance.master) {
            table.remove(&instance.name);
        }
        if let Some(master) = instance.master.and_then(|id| self.instances.get_mut(&id))
            && master.watched.promoted == Some(id)
        {
            master.watched.promoted = None;
        }
        self.release_link(instance.link);
    }

    fn release_link(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.refs -= 1;
        if link.refs == 0 {
            self.drop_connections(id);
            self.links.remove(&id);
        }
    }

    /// A Sentinel that is known from another master as well shares the link that is there.
    pub(super) fn share_link(&mut self, id: Id) {
        let Some(sentinel) = self.get(id) else {
            return;
        };
        let (master, own, runid) = (sentinel.master, sentinel.link, sentinel.runid.clone());
        if runid.is_none() || self.links.get(&own).is_none_or(|link| link.refs > 1) {
            return;
        }
        let other = self.instances.values().find(|other| {
            other.kind == Kind::Sentinel && other.master != master && other.runid == runid
        });
        let Some(shared) = other.map(|other| other.link) else {
            return;
        };
        self.release_link(own);
        if let Some(link) = self.links.get_mut(&shared) {
            link.refs += 1;
        }
        if let Some(sentinel) = self.instances.get_mut(&id) {
            sentinel.link = shared;
        }
    }

    /// The instance of this number.
    pub fn get(&self, id: Id) -> Option<&Instance> {
        self.instances.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Instance> {
        self.instances.get_mut(&id)
    }

    /// The link of an instance.
    pub fn link_of(&self, instance: &Instance) -> Option<&Link> {
        self.links.get(&instance.link)
    }

    pub(super) fn link_mut(&mut self, id: Id) -> Option<&mut Link> {
        let link = self.instances.get(&id)?.link;
        self.links.get_mut(&link)
    }

    /// True if the instance can't be talked to now.
    pub(super) fn is_disconnected(&self, id: Id) -> bool {
        let link = self.get(id).and_then(|instance| self.link_of(instance));
        link.is_none_or(|link| link.disconnected)
    }

    /// All masters.
    pub fn masters(&self) -> impl Iterator<Item = &Instance> {
        self.masters.values().filter_map(|id| self.get(*id))
    }

    /// The master of this name.
    pub fn master_named(&self, name: &str) -> Option<&Instance> {
        self.masters.get(name).and_then(|id| self.get(*id))
    }

    pub fn replicas_of(&self, master: Id) -> Vec<Id> {
        let replicas = self.get(master).map(|m| &m.watched.replicas);
        replicas
            .into_iter()
            .flat_map(|all| all.values().copied())
            .collect()
    }

    pub fn sentinels_of(&self, master: Id) -> Vec<Id> {
        let sentinels = self.get(master).map(|m| &m.watched.sentinels);
        sentinels
            .into_iter()
            .flat_map(|all| all.values().copied())
            .collect()
    }

    /// The master of an instance, which may be itself.
    pub fn master_of(&self, instance: &Instance) -> Id {
        instance.master.unwrap_or(instance.id)
    }

    /// Where the master is: the promoted replica's place, once it has taken over.
    pub fn current_addr<'a>(&'a self, master: &'a Instance) -> &'a Addr {
        let watched = &master.watched;
        let promoted = watched.promoted.and_then(|id| self.get(id));
        match promoted.filter(|_| watched.stage >= Stage::ReconfReplicas) {
            Some(promoted) => &promoted.addr,
            None => &master.addr,
        }
    }
}
