//! CLUSTER, as far as it shows something: the nodes, their slots, the connections between them.

use std::fmt::Write as _;

use super::DISABLED;
use super::change::{refusal, with};
use crate::base::slot::Slot;
use crate::cluster::wire::Kind;
use crate::cluster::{Cluster, Endpoint, Node};
use crate::cmd::session::Marks;
use crate::cmd::{Args, CmdResult, DONE, Fault};
use crate::exec::Call;
use crate::resp::reply::Reply;

/// What is known of the machine's outside, before it is looked at.
fn look<R>(call: &mut Call<'_>, f: impl FnOnce(&Cluster) -> R) -> Result<R, Fault> {
    with(call, |cluster| f(cluster))
}

/// True of a client that is to hear of ports where TLS is spoken, since it speaks that itself.
fn speaks_tls(call: &mut Call<'_>) -> bool {
    call.session().marks.has(Marks::TLS)
}

/// The machine, and where what it shows is written.
fn page<'a>(call: &'a mut Call<'_>) -> Result<(&'a Cluster, &'a mut Reply), Fault> {
    // (What it knows of us is to be of now.)
    with(call, |_| ())?;
    let (server, token) = (&mut *call.server, call.token);
    let cluster = server.cluster.as_deref().ok_or(DISABLED)?;
    let conn = server.conns.get_mut(token).ok_or(DISABLED)?;
    Ok((cluster, &mut conn.reply))
}

/// CLUSTER MYID
pub(super) fn myid(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let name = look(call, |cluster| cluster.myself().name)?;
    call.reply().bulk(name.bytes());
    DONE
}

/// CLUSTER MYSHARDID
pub(super) fn myshardid(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let shard = look(call, |cluster| cluster.myself().shard)?;
    call.reply().bulk(shard.bytes());
    DONE
}

/// CLUSTER NODES
pub(super) fn nodes(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let tls = speaks_tls(call);
    let text = look(call, |cluster| cluster.describe_all(tls))?;
    call.reply().verbatim(b"txt", text.as_bytes());
    DONE
}

/// CLUSTER REPLICAS node, CLUSTER SLAVES node
pub(super) fn replicas(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let tls = speaks_tls(call);
    let lines = look(call, |cluster| {
        let master = cluster.find_or_say(args.argv()[2])?;
        if master.is_replica() {
            return Err("The specified node is not a master".into());
        }
        let replicas = master.replicas.iter().filter_map(|id| cluster.node(*id));
        Ok(replicas
            .map(|node| cluster.describe_one(node, tls))
            .collect::<Vec<_>>())
    })?
    .map_err(refusal)?;
    let reply = call.reply();
    reply.array(lines.len());
    for line in lines {
        reply.bulk(line.as_bytes());
    }
    DONE
}

/// CLUSTER COUNT-FAILURE-REPORTS node
pub(super) fn count_failure_reports(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let count = with(call, |cluster| {
        let id = cluster.find_or_say(args.argv()[2])?.id;
        Ok(cluster.reports_of(id))
    })?
    .map_err(refusal)?;
    call.reply().int(count as i64);
    DONE
}

/// CLUSTER INFO
pub(super) fn info(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let text = look(call, info_of)?;
    call.reply().verbatim(b"txt", text.as_bytes());
    DONE
}

fn info_of(cluster: &Cluster) -> String {
    let (mut assigned, mut ok, mut pfail, mut fail) = (0, 0, 0, 0);
    for owner in Slot::all().filter_map(|slot| cluster.owner(slot)) {
        assigned += 1;
        let of_state = match (owner.has_failed(), owner.has_timed_out()) {
            (true, _) => &mut fail,
            (false, true) => &mut pfail,
            (false, false) => &mut ok,
        };
        *of_state += 1;
    }
    let state = if cluster.is_ok() { "ok" } else { "fail" };
    let my_epoch = cluster.master_of(cluster.myself()).config_epoch;
    let mut out = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = write!(out, "{name}:{value}\r\n");
    };
    line("cluster_state", &state);
    line("cluster_slots_assigned", &assigned);
    line("cluster_slots_ok", &ok);
    line("cluster_slots_pfail", &pfail);
    line("cluster_slots_fail", &fail);
    line("cluster_known_nodes", &cluster.known());
    line("cluster_size", &cluster.size());
    line("cluster_current_epoch", &cluster.current_epoch);
    line("cluster_my_epoch", &my_epoch);
    let counted = &cluster.counted;
    for (way, counts) in [("sent", &counted.sent), ("received", &counted.received)] {
        for (kind, count) in Kind::ALL.iter().zip(counts).filter(|(_, n)| **n > 0) {
            let name = format!("cluster_stats_messages_{}_{way}", kind.name());
            line(&name, count);
        }
        let name = format!("cluster_stats_messages_{way}");
        line(&name, &counts.iter().sum::<u64>());
    }
    line(
        "total_cluster_links_buffer_limit_exceeded",
        &counted.over_limit,
    );
    out
}

/// CLUSTER LINKS
pub(super) fn links(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.server.tell_queued();
    let (cluster, reply) = page(call)?;
    let links: Vec<_> = (cluster.links())
        .filter_map(|link| Some((link, cluster.node(link.node?)?)))
        .collect();
    reply.array(links.len());
    for (link, node) in links {
        let events = match (link.is_up, link.queued > 0) {
            (true, true) => "rw",
            (true, false) => "r",
            (false, _) => "w",
        };
        reply.map(6);
        let words: [(&str, &[u8]); 2] = [
            ("direction", if link.inbound { b"from" } else { b"to" }),
            ("node", node.name.bytes()),
        ];
        for (name, value) in words {
            reply.bulk(name.as_bytes());
            reply.bulk(value);
        }
        reply.bulk(b"create-time");
        reply.int(link.created_ms);
        reply.bulk(b"events");
        reply.bulk(events.as_bytes());
        for name in ["send-buffer-allocated", "send-buffer-used"] {
            reply.bulk(name.as_bytes());
            reply.int(link.queued as i64);
        }
    }
    DONE
}

/// CLUSTER SLOTS: for each range of slots its master and the replicas of that which have its data.
pub(super) fn slots(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let tls = speaks_tls(call);
    let (cluster, reply) = page(call)?;
    let mut ranges: Vec<(Slot, Slot, &Node)> = Vec::new();
    for slot in Slot::all() {
        let Some(owner) = cluster.owner(slot) else {
            continue;
        };
        match ranges.last_mut() {
            Some((_, last, node)) if node.id == owner.id && last.number() + 1 == slot.number() => {
                *last = slot;
            }
            _ => ranges.push((slot, slot, owner)),
        }
    }
    reply.array(ranges.len());
    for (first, last, master) in ranges {
        let replicas = master.replicas.iter().filter_map(|id| cluster.node(*id));
        let can_serve = |n: &&Node| !n.has_failed() && cluster.offset_of(n) != 0;
        let replicas: Vec<&Node> = replicas.filter(can_serve).collect();
        reply.array(3 + replicas.len());
        reply.int(i64::from(first.number()));
        reply.int(i64::from(last.number()));
        for node in std::iter::once(master).chain(replicas) {
            write_place(reply, cluster, node, tls);
        }
    }
    DONE
}

/// Where a node is: what clients are to use, and whatever else is known.
fn write_place(reply: &mut Reply, cluster: &Cluster, node: &Node, tls: bool) {
    let endpoint = cluster.settings().endpoint;
    reply.array(4);
    match endpoint {
        Endpoint::Unknown => reply.null(),
        _ => reply.bulk(cluster.endpoint(node, tls).0.as_bytes()),
    }
    reply.int(i64::from(cluster.endpoint(node, tls).1));
    reply.bulk(node.name.bytes());
    let more = [
        ("ip", &node.ip, endpoint != Endpoint::Ip),
        (
            "hostname",
            &node.hostname,
            endpoint != Endpoint::Hostname && !node.hostname.is_empty(),
        ),
    ];
    reply.map(more.iter().filter(|(_, _, shown)| *shown).count());
    for (name, value, _) in more.iter().filter(|(_, _, shown)| *shown) {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

/// CLUSTER SHARDS: for each shard its slots and its nodes.
pub(super) fn shards(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let (cluster, reply) = page(call)?;
    let shards = cluster.shards();
    reply.array(shards.len());
    for nodes in shards {
        let ranges = nodes
            .first()
            .map(|node| cluster.master_of(node).slots.ranges());
        let ranges = ranges.unwrap_or_default();
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(ranges.len() * 2);
        for (first, last) in ranges {
            reply.int(i64::from(first));
            reply.int(i64::from(last));
        }
        reply.bulk(b"nodes");
        reply.array(nodes.len());
        for node in nodes {
            write_node(reply, cluster, node);
        }
    }
    DONE
}

fn write_node(reply: &mut Reply, cluster: &Cluster, node: &Node) {
    let offset = cluster.offset_of(node);
    let health = match (node.has_failed(), node.is_replica() && offset == 0) {
        (true, _) => "fail",
        (false, true) => "loading",
        (false, false) => "online",
    };
    let ports = [("port", node.port), ("tls-port", node.tls_port)];
    let has_hostname = !node.hostname.is_empty();
    let fields =
        6 + ports.iter().filter(|(_, port)| *port != 0).count() + usize::from(has_hostname);
    reply.map(fields);
    let text = |reply: &mut Reply, name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    text(reply, "id", &node.name.to_string());
    for (name, port) in ports.iter().filter(|(_, port)| *port != 0) {
        reply.bulk(name.as_bytes());
        reply.int(i64::from(*port));
    }
    text(reply, "ip", &node.ip);
    text(reply, "endpoint", cluster.endpoint(node, false).0);
    if has_hostname {
        text(reply, "hostname", &node.hostname);
    }
    text(
        reply,
        "role",
        if node.is_replica() {
            "replica"
        } else {
            "master"
        },
    );
    reply.bulk(b"replication-offset");
    reply.int(offset);
    text(reply, "health", health);
}
