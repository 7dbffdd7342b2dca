//! SENTINEL MASTER and its like: what is watched, as maps of fields.

use super::{look, master, row};
use crate::cmd::spec::{Arg, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row};
use crate::exec::{Call, ServerFn};
use crate::resp::reply::Reply;
use crate::sentinel::instance::{Reconf, Reported};
use crate::sentinel::{Id, Instance, Kind, Sentinel};

const MASTER_NAME: &[Arg] = &[Arg::string("master-name")];

const fn of_master(name: &'static str) -> Spec {
    row(name, 3).args(MASTER_NAME)
}

pub(super) const MASTER: Row<ServerFn> = of_master("sentinel|master")
    .about("Shows the state of a master.")
    .run(|call, args| {
        let id = master(call, args.argv()[2])?;
        show(call, &[id], false)
    });

pub(super) const MASTERS: Row<ServerFn> = row("sentinel|masters", 2)
    .cost("O(N) with N the masters")
    .about("Shows the state of all masters.")
    .run(|call, _| {
        let ids: Vec<Id> = look(call)?.masters().map(|m| m.id).collect();
        show(call, &ids, true)
    });

const fn replica_row(name: &'static str) -> Spec {
    of_master(name)
        .cost("O(N) with N the replicas")
        .about("Shows the state of a master's replicas.")
}

pub(super) const REPLICAS: Row<ServerFn> = replica_row("sentinel|replicas")
    .since("5.0.0")
    .run(replicas);

pub(super) const SLAVES: Row<ServerFn> = replica_row("sentinel|slaves")
    .since("2.8.0")
    .deprecated("5.0.0", "`SENTINEL REPLICAS`")
    .run(replicas);

fn replicas(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let id = master(call, args.argv()[2])?;
    let sentinel = look(call)?;
    let mut ids = sentinel.replicas_of(id);
    // Some do not want to be known (`replica-announced no`).
    ids.retain(|id| sentinel.get(*id).is_some_and(|r| r.replica.is_announced));
    show(call, &ids, true)
}

pub(super) const SENTINELS: Row<ServerFn> = of_master("sentinel|sentinels")
    .cost("O(N) with N the Sentinels")
    .about("Shows the state of the other Sentinels that watch a master.")
    .run(|call, args| {
        let id = master(call, args.argv()[2])?;
        let ids = look(call)?.sentinels_of(id);
        show(call, &ids, true)
    });

/// Replies what is known of these; `listed`: as an array, even of one.
fn show(call: &mut Call<'_>, ids: &[Id], listed: bool) -> CmdResult {
    let now_ms = call.server.now.ms() as i64;
    let mut shown = Reply::with_resp(call.reply().resp());
    if listed {
        shown.array(ids.len());
    }
    let sentinel = look(call)?;
    for instance in ids.iter().filter_map(|id| sentinel.get(*id)) {
        show_instance(&mut shown, sentinel, instance, now_ms);
    }
    call.reply().append(shown);
    DONE
}

/// The fields of a map as they are gathered.
#[derive(Default)]
struct Fields(Vec<(&'static str, Vec<u8>)>);

impl Fields {
    fn text(&mut self, name: &'static str, text: impl AsRef<[u8]>) {
        self.0.push((name, text.as_ref().to_vec()));
    }

    fn number(&mut self, name: &'static str, n: impl std::fmt::Display) {
        self.0.push((name, n.to_string().into_bytes()));
    }

    fn reply(self, reply: &mut Reply) {
        reply.map(self.0.len());
        for (name, value) in self.0 {
            reply.bulk(name.as_bytes());
            reply.bulk(&value);
        }
    }
}

fn flags(sentinel: &Sentinel, instance: &Instance) -> String {
    let disconnected = sentinel.link_of(instance).is_none_or(|l| l.disconnected);
    let (watched, replica) = (&instance.watched, &instance.replica);
    let all = [
        (instance.s_down, "s_down"),
        (watched.o_down, "o_down"),
        (instance.kind == Kind::Master, "master"),
        (instance.kind == Kind::Replica, "slave"),
        (instance.kind == Kind::Sentinel, "sentinel"),
        (disconnected, "disconnected"),
        (instance.sentinel.says_down, "master_down"),
        (instance.in_failover(), "failover_in_progress"),
        (replica.is_promoted, "promoted"),
        (replica.reconf == Reconf::Sent, "reconf_sent"),
        (replica.reconf == Reconf::InProgress, "reconf_inprog"),
        (replica.reconf == Reconf::Done, "reconf_done"),
        (watched.is_forced, "force_failover"),
        (instance.script_kill_sent, "script_kill_sent"),
        (watched.has_rebooted, "master_reboot"),
    ];
    let set: Vec<&str> = all.iter().filter(|(on, _)| *on).map(|(_, f)| *f).collect();
    set.join(",")
}

fn show_instance(reply: &mut Reply, sentinel: &Sentinel, instance: &Instance, now_ms: i64) {
    let mut fields = Fields::default();
    let link = sentinel.link_of(instance);
    fields.text("name", &instance.name);
    fields.text("ip", sentinel.announced(&instance.addr));
    fields.number("port", instance.addr.port);
    fields.text("runid", instance.runid.as_deref().unwrap_or_default());
    fields.text("flags", flags(sentinel, instance));
    if let Some(link) = link {
        fields.number("link-pending-commands", link.pending);
        fields.number("link-refcount", link.refs);
    }
    if instance.in_failover() {
        fields.text("failover-state", instance.watched.stage.name());
    }
    if let Some(link) = link {
        let since = |ms: i64| now_ms - ms;
        let sent = match link.act_ping_ms {
            0 => 0,
            sent_ms => since(sent_ms),
        };
        fields.number("last-ping-sent", sent);
        fields.number("last-ok-ping-reply", since(link.avail_ms));
        fields.number("last-ping-reply", since(link.last_pong_ms));
    }
    if instance.s_down {
        fields.number("s-down-time", now_ms - instance.s_down_since_ms);
    }
    if instance.watched.o_down {
        fields.number("o-down-time", now_ms - instance.watched.o_down_since_ms);
    }
    fields.number("down-after-milliseconds", instance.down_after_ms);
    match instance.kind {
        Kind::Master => {
            role_fields(&mut fields, instance, now_ms);
            master_fields(&mut fields, instance);
        }
        Kind::Replica => {
            role_fields(&mut fields, instance, now_ms);
            replica_fields(&mut fields, instance);
        }
        Kind::Sentinel => {
            let since = now_ms - instance.sentinel.last_hello_ms;
            fields.number("last-hello-message", since);
            fields.text("voted-leader", instance.leader.as_deref().unwrap_or("?"));
            fields.number("voted-leader-epoch", instance.leader_epoch);
        }
    }
    fields.reply(reply);
}

fn role_fields(fields: &mut Fields, instance: &Instance, now_ms: i64) {
    let refresh = match instance.info_ms {
        0 => 0,
        ms => now_ms - ms,
    };
    fields.number("info-refresh", refresh);
    let role = match instance.reported {
        Reported::Master => "master",
        _ => "slave",
    };
    fields.text("role-reported", role);
    fields.number("role-reported-time", now_ms - instance.reported_ms);
}

fn master_fields(fields: &mut Fields, master: &Instance) {
    let watched = &master.watched;
    fields.number("config-epoch", watched.config_epoch);
    fields.number("num-slaves", watched.replicas.len());
    fields.number("num-other-sentinels", watched.sentinels.len());
    fields.number("quorum", watched.quorum);
    fields.number("failover-timeout", watched.failover_timeout_ms);
    fields.number("parallel-syncs", watched.parallel_syncs);
    if let Some(path) = &watched.notification_script {
        fields.text("notification-script", path);
    }
    if let Some(path) = &watched.client_reconfig_script {
        fields.text("client-reconfig-script", path);
    }
}

fn replica_fields(fields: &mut Fields, instance: &Instance) {
    let replica = &instance.replica;
    fields.number("master-link-down-time", replica.link_down_ms);
    let status = if replica.link_up { "ok" } else { "err" };
    fields.text("master-link-status", status);
    fields.text("master-host", replica.master_host.as_deref().unwrap_or("?"));
    fields.number("master-port", replica.master_port);
    fields.number("slave-priority", replica.priority);
    fields.number("slave-repl-offset", replica.offset);
    fields.number("replica-announced", u8::from(replica.is_announced));
}

pub(super) const MYID: Row<ServerFn> = row("sentinel|myid", 2)
    .since("6.2.0")
    .about("Tells the ID of this Sentinel.")
    .run(|call, _| {
        let id = look(call)?.myid.clone();
        call.reply().bulk(id.as_bytes());
        DONE
    });

pub(super) const PENDING_SCRIPTS: Row<ServerFn> = row("sentinel|pending-scripts", 2)
    .cost("")
    .about("Lists the programs that run or are to run.")
    .run(pending_scripts);

fn pending_scripts(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let now_ms = call.server.now.ms() as i64;
    let jobs: Vec<_> = look(call)?.jobs().cloned().collect();
    let reply = call.reply();
    reply.array(jobs.len());
    for job in jobs {
        reply.map(5);
        reply.bulk(b"argv");
        reply.array(job.argv.len());
        for arg in &job.argv {
            reply.bulk(arg);
        }
        let (flags, field, ms) = match job.running {
            true => ("running", "run-time", now_ms - job.start_ms),
            false => ("scheduled", "run-delay", (job.start_ms - now_ms).max(0)),
        };
        reply.bulk(b"flags");
        reply.bulk(flags.as_bytes());
        reply.bulk(b"pid");
        reply.bulk_int(i64::from(job.pid));
        reply.bulk(field.as_bytes());
        reply.bulk_int(ms);
        reply.bulk(b"retry-num");
        reply.bulk_int(i64::from(job.tries));
    }
    DONE
}

pub(super) const INFO_CACHE: Row<ServerFn> = row("sentinel|info-cache", -3)
    .since("3.2.0")
    .cost("O(N) with N the instances")
    .about("Shows the last INFO of masters and their replicas.")
    .args(&[Arg::string("nodename").multiple()])
    .run(info_cache);

/// SENTINEL INFO-CACHE name [name ...]: by master, how old the INFO of it and of its replicas is, and its text.
fn info_cache(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let now_ms = call.server.now.ms() as i64;
    let mut shown = Reply::with_resp(call.reply().resp());
    let sentinel = look(call)?;
    let mut masters: Vec<&Instance> = Vec::new();
    for name in &args.argv()[2..] {
        let named = sentinel.master_named(&String::from_utf8_lossy(name));
        masters.extend(named.filter(|m| masters.iter().all(|known| known.id != m.id)));
    }
    shown.array(masters.len() * 2);
    for master in masters {
        shown.bulk(master.name.as_bytes());
        let replicas = sentinel.replicas_of(master.id);
        shown.array(replicas.len() + 1);
        let replicas = replicas.into_iter().filter_map(|id| sentinel.get(id));
        for instance in std::iter::once(master).chain(replicas) {
            shown.array(2);
            shown.int(match master.info_ms {
                0 => 0,
                _ => now_ms - instance.info_ms,
            });
            match &instance.info {
                Some(info) => shown.bulk(info),
                None => shown.null(),
            }
        }
    }
    call.reply().append(shown);
    DONE
}
