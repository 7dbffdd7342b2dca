//! A link that a test can cut: connections to a port of its own are carried on to a server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

/// See the head of the file.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// Nobody gets through.
    closed: AtomicBool,
    /// So many bytes the server may still send.
    left: AtomicI64,
    /// Both ends of every connection there was.
    ends: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A way to the server at this port of this machine.
    pub fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            closed: AtomicBool::new(false),
            left: AtomicI64::new(i64::MAX),
            ends: Mutex::default(),
        });
        let own = shared.clone();
        // (It ends with the tests.)
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if own.closed.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else {
                    continue;
                };
                let both = [near, far];
                let copies = || both.each_ref().map(|s| s.try_clone().unwrap());
                own.ends.lock().unwrap().extend(copies());
                let [near, far] = copies();
                std::thread::spawn(move || carry(near, far, None));
                let [near, far] = both;
                let shared = own.clone();
                std::thread::spawn(move || carry(far, near, Some(&shared)));
            }
        });
        Proxy { port, shared }
    }

    /// Cuts all connections; new ones come through.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts all connections once the server has sent so many bytes more: the last of them are all that comes through.
    pub fn cut_after(&self, bytes: u32) {
        self.shared.left.store(bytes.into(), Ordering::SeqCst);
    }

    /// Cuts all connections, and lets no new one through.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// New connections come through again.
    pub fn open(&self) {
        self.shared.closed.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn cut(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
        for end in self.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// How many of these bytes come through.
    fn let_through(&self, bytes: usize) -> usize {
        let before = self.left.fetch_sub(bytes as i64, Ordering::SeqCst);
        bytes.min(usize::try_from(before).unwrap_or(0))
    }
}

/// Carries on what comes; `counted`: as far as it may come through.
fn carry(mut from: TcpStream, mut to: TcpStream, counted: Option<&Shared>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let passing = counted.map_or(n, |shared| shared.let_through(n));
        if to.write_all(&buffer[..passing]).is_err() {
            break;
        }
        if let Some(shared) = counted.filter(|_| passing < n) {
            shared.cut();
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
