//! A link that a test can cut: connections to a port of its own are carried on to a server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// See the head of the file.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Nobody gets through.
    closed: AtomicBool,
    /// Both ends of every connection there was.
    ends: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A way to the server at this port of this machine.
    pub fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
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
                std::thread::spawn(move || carry(near, far));
                let [near, far] = both;
                std::thread::spawn(move || carry(far, near));
            }
        });
        Proxy { port, shared }
    }

    /// Cuts all connections; new ones come through.
    pub fn cut(&self) {
        for end in self.shared.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Cuts all connections, and lets no new one through.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.cut();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
