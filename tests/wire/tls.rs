//! TLS as people meet it: our programs and Debian's, each on both sides, with certificates that are made for the test.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod node;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use node::{Node, directory, free_port, our_program, peer_program, wait_until};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;

/// An authority, and certificates that it has signed.
struct Papers {
    dir: Arc<TempDir>,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Papers {
    /// `ca`, `other-ca`, and by them `server`, `client` (each for that alone), `any`, `next` and `other-any`.
    fn new() -> Papers {
        let papers = Papers { dir: directory() };
        let (ca, other) = (authority("Authority"), authority("Another"));
        papers.write("ca.crt", &ca.pem());
        papers.write("other-ca.crt", &other.pem());
        let server = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let client = vec![ExtendedKeyUsagePurpose::ClientAuth];
        papers.issue("server", &ca, server);
        papers.issue("client", &ca, client);
        papers.issue("any", &ca, Vec::new());
        papers.issue("next", &ca, Vec::new());
        papers.issue("other-any", &other, Vec::new());
        papers
    }

    fn issue(&self, name: &str, by: &Authority, uses: Vec<ExtendedKeyUsagePurpose>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = uses;
        let made = params.signed_by(&key, by).unwrap();
        self.write(&format!("{name}.crt"), &made.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_string()
    }

    /// A server that speaks TLS at its port, and nothing else.
    fn serve(&self, program: &str, options: &[&str]) -> Node {
        let dir = directory();
        let path = dir.path().to_path_buf();
        Node::launch(dir, program, |port, command| {
            command
                .args(["--port", "0", "--tls-port", &port.to_string()])
                .args(["--tls-cert-file", &self.path("any.crt")])
                .args(["--tls-key-file", &self.path("any.key")])
                .args(["--tls-ca-cert-file", &self.path("ca.crt")])
                .args(["--bind", "127.0.0.1", "--save", "", "--dir"])
                .arg(&path)
                .args(["--repl-diskless-sync-delay", "0"])
                .args(options);
        })
    }

    /// A `redis-cli` that trusts the authority and shows this certificate.
    fn cli(&self, program: &str, port: u16, shows: Option<&str>) -> Command {
        let mut command = Command::new(program);
        command.args([
            "-p",
            &port.to_string(),
            "--tls",
            "--cacert",
            &self.path("ca.crt"),
        ]);
        if let Some(shows) = shows {
            command.args(["--cert", &self.path(&format!("{shows}.crt"))]);
            command.args(["--key", &self.path(&format!("{shows}.key"))]);
        }
        command
    }

    /// What our redis-cli says of a command, with the certificate that is for anything.
    fn ask(&self, node: &Node, args: &[&str]) -> String {
        said(self.cli(our_cli(), node.port, Some("any")).args(args))
    }
}

fn our_cli() -> &'static str {
    env!("CARGO_BIN_EXE_redis-cli")
}

fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // Who does not want it hangs up.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// What a program prints, errors and all.
fn said(command: &mut Command) -> String {
    let output = run(command, b"");
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).trim_end().to_string()
}

/// Who talks to whom: server, client.
fn pairs() -> [(String, &'static str); 3] {
    [
        (our_program(), "redis-cli"),
        (peer_program(), our_cli()),
        (our_program(), our_cli()),
    ]
}

#[test]
fn a_big_value_goes_both_ways() {
    let papers = Papers::new();
    let mut value: Vec<u8> = (0..20_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    // (redis-cli ends what it prints with a line.)
    value.retain(|b| *b != b'\n');
    for (server, client) in pairs() {
        let node = papers.serve(&server, &[]);
        let cli = || papers.cli(client, node.port, Some("any"));
        let set = run(cli().args(["-x", "SET", "big"]), &value);
        assert_eq!(set.stdout, b"OK\n", "{server} {client}: {}", node.log());
        let got = run(cli().args(["GET", "big"]), b"").stdout;
        assert_eq!(got.len(), value.len() + 1, "{server} {client}");
        assert!(got[..value.len()] == value, "{server} {client}");
        // Many replies to many commands that come at once.
        let many = "INCR n\nECHO 0123456789\n".repeat(5000);
        let replies = run(&mut cli(), many.as_bytes()).stdout;
        assert_eq!(replies.iter().filter(|b| **b == b'\n').count(), 10_000);
        assert!(
            replies.ends_with(b"5000\n0123456789\n"),
            "{server} {client}"
        );
    }
}

#[test]
fn certificates_are_asked_for_as_the_directive_says() {
    let papers = Papers::new();
    for (server, client) in pairs() {
        let node = papers.serve(
            &server,
            &[
                "--tls-cert-file",
                &papers.path("server.crt"),
                "--tls-key-file",
                &papers.path("server.key"),
            ],
        );
        let ping = |shows| said(papers.cli(client, node.port, shows).arg("PING"));
        let set = |to: &str| {
            let mut cli = papers.cli(client, node.port, Some("client"));
            assert_eq!(
                said(cli.args(["CONFIG", "SET", "tls-auth-clients", to])),
                "OK"
            );
        };
        // The one that is for servers is no good for a client, and the other authority is nobody here.
        for (asked, none, server_only, other) in [
            ("yes", false, false, false),
            ("optional", true, false, false),
            ("no", true, true, true),
        ] {
            set(asked);
            for (shows, lets_in) in [
                (None, none),
                (Some("server"), server_only),
                (Some("other-any"), other),
                (Some("client"), true),
                (Some("any"), true),
            ] {
                let answer = ping(shows);
                assert_eq!(
                    answer == "PONG",
                    lets_in,
                    "{server} {client} {asked} {shows:?}: {answer}"
                );
            }
        }
        // And a client looks at the server's.
        let other = papers.path("other-ca.crt");
        let mut distrustful = Command::new(client);
        distrustful.args([
            "-p",
            &node.port.to_string(),
            "--tls",
            "--cacert",
            &other,
            "PING",
        ]);
        let answer = said(&mut distrustful);
        assert!(answer.contains("SSL_connect failed"), "{client}: {answer}");
        let mut careless = Command::new(client);
        careless.args(["-p", &node.port.to_string(), "--tls", "--insecure", "PING"]);
        assert_eq!(said(&mut careless), "PONG");
        let uri = format!("rediss://127.0.0.1:{}/", node.port);
        let mut by_uri = Command::new(client);
        by_uri.args(["-u", &uri, "--insecure", "PING"]);
        assert_eq!(said(&mut by_uri), "PONG");
    }
    let plain = Node::start(&our_program(), &[]);
    let mut cli = Command::new(our_cli());
    let missing = said(cli.args([
        "-p",
        &plain.port.to_string(),
        "--tls",
        "--cacert",
        "/nowhere",
        "PING",
    ]));
    // (Twice, as by Redis's: it tries again when it sends the command.)
    let words = "Could not negotiate a TLS connection: Invalid CA Certificate File/Directory";
    assert!(missing.starts_with(words), "{missing}");
}

/// A connection that has sent this and no more.
fn sent(node: &Node, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

#[test]
fn whoever_shakes_no_hands_holds_nobody_up_and_is_told_of() {
    let papers = Papers::new();
    let node = papers.serve(
        &our_program(),
        &["--loglevel", "verbose", "--maxclients", "20"],
    );
    // The head of a record with a handshake, and nothing in it.
    let stalled: Vec<TcpStream> = (0..5).map(|_| sent(&node, &[22, 3, 1, 2, 0, 1])).collect();
    let silent: Vec<TcpStream> = (0..5).map(|_| sent(&node, b"")).collect();
    assert_eq!(papers.ask(&node, &["PING"]), "PONG");
    for garbage in [
        &b"PING\r\n"[..],
        &[0xff; 40_000],
        b"*1\r\n$4\r\nPING\r\n",
        &[22, 3, 1, 0, 4, 1, 2, 3, 4],
    ] {
        let mut stream = sent(&node, garbage);
        let mut end = Vec::new();
        // An alert may come first; that the rest was not read may make it a reset.
        let _ = stream.read_to_end(&mut end);
        // Who speaks no TLS is told nothing, as by Redis: an alert would be taken for a reply.
        assert!(end.is_empty() || garbage[0] == 22, "{end:?}");
    }
    let half = sent(&node, &[22, 3, 1]);
    half.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&half).read(&mut [0; 100]).unwrap(), 0);
    let failures = || {
        node.log()
            .matches("Error accepting a client connection: ")
            .count()
    };
    // (The first was the look whether the server is there.)
    wait_until("six failures are in the log", || failures() == 6);
    let count = || papers.ask(&node, &["INFO", "clients"]);
    // Those who wait are clients already, as with Redis.
    assert!(count().contains("connected_clients:11"), "{}", count());
    // One too many is not told why: it could not understand it.
    let crowd: Vec<TcpStream> = (0..10).map(|_| sent(&node, b"")).collect();
    let mut late = sent(&node, b"");
    assert_eq!(late.read(&mut [0; 100]).unwrap(), 0);
    drop((stalled, silent, crowd));
    wait_until("all of them are gone", || {
        count().contains("connected_clients:1\r\n") || count().contains("connected_clients:1\n")
    });
    // Nobody spins for those who have gone.
    let used = |text: &str| -> f64 {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("used_cpu_user_main_thread:"));
        line.unwrap().trim().parse().unwrap()
    };
    let idle = || used(&papers.ask(&node, &["INFO", "cpu"]));
    let before = idle();
    std::thread::sleep(Duration::from_millis(500));
    assert!(idle() - before < 0.25);
}

#[test]
fn certificates_are_changed_while_clients_are_served() {
    let papers = Papers::new();
    let node = papers.serve(&our_program(), &[]);
    let set = |args: &[&str]| papers.ask(&node, &[&["CONFIG", "SET"], args].concat());
    let mut stays = papers.cli(our_cli(), node.port, Some("any"));
    let mut stays = stays
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = stays.stdin.take().unwrap();
    stdin.write_all(b"PING\n").unwrap();
    let mut five = [0; 5];
    stays
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut five)
        .unwrap();
    let (crt, key) = (papers.path("next.crt"), papers.path("next.key"));
    // A certificate without its key can't be, nor what does not exist, and what there was goes on.
    let refusal = "ERR CONFIG SET failed (possibly related to argument 'tls-cert-file') - Unable to update TLS configuration. Check server logs.";
    assert_eq!(set(&["tls-cert-file", &crt]), refusal);
    assert_eq!(set(&["tls-cert-file", "/nowhere"]), refusal);
    assert!(
        papers
            .ask(&node, &["CONFIG", "GET", "tls-cert-file"])
            .ends_with("any.crt")
    );
    assert_eq!(set(&["tls-cert-file", &crt, "tls-key-file", &key]), "OK");
    for (bad, with) in [
        ("tls-protocols", "TLSv1.1"),
        ("tls-protocols", "TLSv9"),
        ("tls-ciphers", "AES128-SHA256"),
        ("tls-ciphersuites", "x"),
    ] {
        assert!(
            set(&[bad, with]).contains("Unable to update TLS configuration"),
            "{bad} {with}"
        );
    }
    // A version, and a cipher of it.
    assert_eq!(
        set(&["tls-protocols", "TLSv1.2", "tls-ciphers", "CHACHA20"]),
        "OK"
    );
    let with = |ciphers| {
        said(papers.cli("redis-cli", node.port, Some("any")).args([
            "--tls-ciphers",
            ciphers,
            "PING",
        ]))
    };
    assert_eq!(with("ECDHE-ECDSA-CHACHA20-POLY1305"), "PONG");
    assert!(with("ECDHE-ECDSA-AES128-GCM-SHA256").contains("SSL_connect failed"));
    // Other authorities: whom we trusted a moment ago is a stranger.
    assert_eq!(
        set(&["tls-ca-cert-file", &papers.path("other-ca.crt")]),
        "OK"
    );
    assert_ne!(
        said(papers.cli("redis-cli", node.port, Some("any")).arg("PING")),
        "PONG"
    );
    assert_eq!(
        said(
            papers
                .cli("redis-cli", node.port, Some("other-any"))
                .arg("PING")
        ),
        "PONG"
    );
    // Who came before all of that is still there.
    stdin.write_all(b"PING\n").unwrap();
    stays
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut five)
        .unwrap();
    assert_eq!(&five, b"PONG\n");
    drop(stdin);
    stays.wait().unwrap();
}

#[test]
fn the_port_opens_and_closes() {
    let papers = Papers::new();
    let node = Node::start(&our_program(), &[]);
    let plain = |args: &[&str]| {
        said(
            Command::new(our_cli())
                .args(["-p", &node.port.to_string()])
                .args(args),
        )
    };
    let port = free_port().to_string();
    let unable = "ERR CONFIG SET failed (possibly related to argument 'tls-port') - Unable to update TLS configuration. Check server logs.";
    assert_eq!(plain(&["CONFIG", "SET", "tls-port", &port]), unable);
    let papers_of = [
        ("tls-cert-file", "any.crt"),
        ("tls-key-file", "any.key"),
        ("tls-ca-cert-file", "ca.crt"),
    ];
    for (directive, file) in papers_of {
        assert_eq!(
            plain(&["CONFIG", "SET", directive, &papers.path(file)]),
            "OK"
        );
    }
    assert_eq!(plain(&["CONFIG", "SET", "tls-port", &port]), "OK");
    let secure = || {
        said(
            papers
                .cli("redis-cli", port.parse().unwrap(), Some("any"))
                .arg("PING"),
        )
    };
    assert_eq!(secure(), "PONG");
    let info = plain(&["INFO", "server"]);
    assert!(
        info.contains(&format!("listener2:name=tls,bind=127.0.0.1,port={port}")),
        "{info}"
    );
    assert_eq!(plain(&["CONFIG", "SET", "tls-port", "0"]), "OK");
    assert!(secure().contains("Connection refused"));
    assert_eq!(plain(&["PING"]), "PONG");
}

/// Waits until a replica has what was written to its master last.
fn wait_for_key(papers: &Papers, replica: &Node, key: &str, value: &str) {
    wait_until("the replica has the key", || {
        papers.ask(replica, &["GET", key]) == value
    });
}

#[test]
fn replicas_follow_over_tls() {
    let papers = Papers::new();
    // (Debian's 7.0 can't read what a 7.2 sends as a whole, so that it is no replica of ours here.)
    let peer_reads_ours = peer_program() != "redis-server";
    let masters = [our_program(), peer_program()].map(|program| papers.serve(&program, &[]));
    let big = "x".repeat(3_000_000);
    for (at, master) in masters.iter().enumerate() {
        let set = run(
            papers
                .cli(our_cli(), master.port, Some("any"))
                .args(["-x", "SET", "big"]),
            big.as_bytes(),
        );
        assert_eq!(set.stdout, b"OK\n");
        let of = format!("127.0.0.1 {}", master.port);
        let options = ["--tls-replication", "yes", "--replicaof", &of];
        let mut replicas = vec![papers.serve(&our_program(), &options)];
        if at == 0 && peer_reads_ours {
            replicas.push(papers.serve(&peer_program(), &options));
        }
        papers.ask(master, &["SET", "k", "1"]);
        for replica in &replicas {
            wait_for_key(&papers, replica, "k", "1");
            assert_eq!(papers.ask(replica, &["STRLEN", "big"]), "3000000");
        }
        // A link that is cut goes on where it was.
        let full = |master: &Node| {
            papers
                .ask(master, &["INFO", "stats"])
                .lines()
                .find(|l| l.starts_with("sync_full:"))
                .unwrap()
                .to_string()
        };
        let before = full(master);
        papers.ask(master, &["CLIENT", "KILL", "TYPE", "replica"]);
        papers.ask(master, &["SET", "k", "2"]);
        for replica in &replicas {
            wait_for_key(&papers, replica, "k", "2");
        }
        assert_eq!(full(master), before);
    }
    // Keys move over TLS where nodes of a cluster would speak it, also inside a transaction.
    let [ours, _] = &masters;
    let there = papers.serve(&our_program(), &[]);
    let port = there.port.to_string();
    let migrate = ["MIGRATE", "127.0.0.1", &port, "k", "0", "5000"];
    assert_eq!(
        papers.ask(ours, &["CONFIG", "SET", "tls-cluster", "yes"]),
        "OK"
    );
    assert_eq!(papers.ask(ours, &migrate), "OK");
    papers.ask(ours, &["SET", "k", "3"]);
    let script = "return redis.call('MIGRATE', '127.0.0.1', ARGV[1], 'k', '0', '5000', 'REPLACE')";
    assert_eq!(papers.ask(ours, &["EVAL", script, "0", &port]), "OK");
    assert_eq!(papers.ask(&there, &["GET", "k"]), "3");
}

#[test]
fn a_start_without_what_tls_needs_says_what() {
    let papers = Papers::new();
    let any = [
        ("tls-cert-file", "any.crt"),
        ("tls-key-file", "any.key"),
        ("tls-ca-cert-file", "ca.crt"),
    ];
    for (left_out, words) in [
        ("tls-cert-file", "No tls-cert-file configured!"),
        ("tls-key-file", "No tls-key-file configured!"),
        (
            "tls-ca-cert-file",
            "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, tls-replication or tls-auth-clients are enabled!",
        ),
    ] {
        let mut command = Command::new(our_program());
        command.args([
            "--port",
            "0",
            "--tls-port",
            &free_port().to_string(),
            "--save",
            "",
        ]);
        for (directive, file) in any.iter().filter(|(directive, _)| *directive != left_out) {
            command.args([&format!("--{directive}"), &papers.path(file)]);
        }
        let output = run(command.current_dir(papers.dir.path()), b"");
        let log = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(
            log.contains(words)
                && log.contains("Failed to configure TLS. Check logs for more info."),
            "{log}"
        );
    }
}

#[test]
fn the_benchmark_speaks_it_too() {
    let papers = Papers::new();
    for server in [our_program(), peer_program()] {
        let node = papers.serve(&server, &[]);
        let mut bench = Command::new(env!("CARGO_BIN_EXE_redis-benchmark"));
        bench.args([
            "-p",
            &node.port.to_string(),
            "--tls",
            "--cacert",
            &papers.path("ca.crt"),
        ]);
        bench.args([
            "--cert",
            &papers.path("any.crt"),
            "--key",
            &papers.path("any.key"),
        ]);
        bench.args([
            "-n", "2000", "-c", "10", "-P", "8", "-d", "3000", "-t", "set,get", "--csv",
        ]);
        let report = said(&mut bench);
        assert_eq!(report.lines().count(), 3, "{server}: {report}");
    }
}

#[test]
fn nodes_of_a_cluster_meet_over_tls() {
    let papers = Papers::new();
    let options = [
        ["--cluster-enabled", "yes"],
        ["--tls-cluster", "yes"],
        ["--tls-replication", "yes"],
    ]
    .concat();
    let nodes = [our_program(), peer_program()].map(|program| papers.serve(&program, &options));
    let [ours, peer] = &nodes;
    let port = peer.port.to_string();
    let meet = ["CLUSTER", "MEET", "127.0.0.1", &port];
    assert_eq!(papers.ask(ours, &meet), "OK");
    for node in &nodes {
        wait_until("the nodes know each other", || {
            let seen = papers.ask(node, &["CLUSTER", "NODES"]);
            let there = |n: &Node| seen.contains(&format!("127.0.0.1:{}@", n.port));
            seen.matches(" connected").count() == 2
                && !seen.contains("handshake")
                && nodes.iter().all(there)
        });
    }
    papers.ask(ours, &["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
    papers.ask(peer, &["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
    let moved = |slot, to: &Node| format!("MOVED {slot} 127.0.0.1:{}", to.port);
    wait_until("ours sends clients on", || {
        papers.ask(ours, &["GET", "foo"]) == moved(12182, peer)
    });
    wait_until("so does the peer", || {
        papers.ask(peer, &["GET", "bar"]) == moved(5061, ours)
    });
    let mut follows = papers.cli(our_cli(), ours.port, Some("any"));
    assert_eq!(said(follows.args(["-c", "SET", "foo", "1"])), "OK");
}

#[test]
fn a_sentinel_watches_over_tls() {
    let papers = Papers::new();
    let master = papers.serve(&our_program(), &[]);
    let of = format!("127.0.0.1 {}", master.port);
    let options = ["--tls-replication", "yes", "--replicaof", &of];
    let replica = papers.serve(&our_program(), &options);
    let dir = directory();
    let file = dir.path().join("sentinel.conf");
    std::fs::write(&file, format!("sentinel monitor m {of} 1\n")).unwrap();
    let sentinel = Node::launch(dir, &our_program(), |port, command| {
        command
            .arg(&file)
            .arg("--sentinel")
            .args(["--port", "0", "--tls-port", &port.to_string()])
            .args(["--tls-replication", "yes"])
            .args(["--tls-cert-file", &papers.path("any.crt")])
            .args(["--tls-key-file", &papers.path("any.key")])
            .args(["--tls-ca-cert-file", &papers.path("ca.crt")]);
    });
    let named = format!("127.0.0.1:{}", replica.port);
    wait_until("the Sentinel has found the replica", || {
        let replicas = papers.ask(&sentinel, &["SENTINEL", "REPLICAS", "m"]);
        replicas.contains(&named) && replicas.contains("master-link-status\nok")
    });
    assert!(
        papers
            .ask(&sentinel, &["SENTINEL", "CKQUORUM", "m"])
            .starts_with("OK 1 usable")
    );
    // It says where it is itself: at the port where TLS is spoken.
    let mut listener = papers.cli(our_cli(), master.port, Some("any"));
    let mut listener = listener
        .args(["SUBSCRIBE", "__sentinel__:hello"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut heard = String::new();
    let mut out = BufReader::new(listener.stdout.take().unwrap());
    let hello = format!("127.0.0.1,{},", sentinel.port);
    while !heard.contains(&hello) {
        assert!(out.read_line(&mut heard).unwrap() > 0, "{heard}");
    }
    listener.kill().unwrap();
    listener.wait().unwrap();
}
