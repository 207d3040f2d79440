//! The server behind the proxy whose latency `benches/load/run` measures: it answers every GET with the same bytes,
//! as cheaply as that can be done, so that the two cores are left to the proxy.
//!
//! `cargo run --release --example load_upstream -- [BYTES [ADDRESS]]` says on which port it listens, and runs until it
//! is killed. After each SIGUSR1 it is slow, or not any more.

#![allow(clippy::print_stdout, reason = "a program, whose output says where it is")]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

/// A head that is longer is none of ours.
const LONGEST: usize = 16 * 1024;

/// How long an answer takes while the server is slow.
const SLOW: Duration = Duration::from_millis(200);

static IS_SLOW: AtomicBool = AtomicBool::new(false);

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let bytes = arguments.next().and_then(|bytes| bytes.parse().ok()).unwrap_or(128);
    let answer: Arc<[u8]> = answer(bytes).into();
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    let mut turns = signal(SignalKind::user_defined1())?;
    tokio::spawn(async move {
        while turns.recv().await.is_some() {
            IS_SLOW.fetch_not(Relaxed);
        }
    });
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, Arc::clone(&answer)));
    }
}

fn answer(bytes: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {bytes}\r\n\r\n");
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + bytes, b'm');
    answer
}

/// Answers each head that ends, until the client goes away. Requests have no body here.
async fn serve(mut stream: TcpStream, answer: Arc<[u8]>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(4096);
    while head.len() < LONGEST && stream.read_buf(&mut head).await? > 0 {
        while let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            head.drain(..end + 4);
            if IS_SLOW.load(Relaxed) {
                #[allow(clippy::disallowed_methods, reason = "the ban keeps the library to one clock")]
                tokio::time::sleep(SLOW).await;
            }
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}
