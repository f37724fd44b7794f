//! HTTP/2 as attackers speak it: raw frames, in floods and in the wrong order. The gateway closes or bears it, in
//! bounded memory, and goes on to serve others.

use bytes::{BufMut, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{PATIENCE, chat, until},
    sky::{PATH, PAYER, Sky},
    slow::resident,
    upstream::{Received, Script},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frame types (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Flags.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a flood may add to the gateway's memory, in bytes.
const ROOM: u64 = 48 << 20;

fn frame(out: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
    out.put_slice(payload);
}

/// A header that enters no table, its name and value as they are (RFC 7541 §6.2.2).
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        assert!(text.len() < 127);
        block.push(text.len() as u8);
        block.extend_from_slice(text.as_bytes());
    }
}

/// The header block of a chat request.
fn block() -> Vec<u8> {
    // `:method POST` and `:scheme http` stand in the static table.
    let mut block = vec![0x83, 0x86];
    literal(&mut block, ":path", PATH);
    literal(&mut block, ":authority", "gateway");
    literal(&mut block, "authorization", &format!("Bearer {PAYER}"));
    block
}

/// One connection that has said its preface.
struct Raw(TcpStream);

impl Raw {
    async fn open(sky: &Sky, settings: &[u8]) -> Self {
        let mut stream = TcpStream::connect(sky.gateway.address()).await.unwrap();
        let mut out = BytesMut::from(PREFACE);
        frame(&mut out, SETTINGS, 0, 0, settings);
        stream.write_all(&out).await.unwrap();
        Self(stream)
    }

    /// Writes until all is out or the gateway has closed. Reads nothing meanwhile but what makes room: a flood whose
    /// answers nobody reads is part of the attack, so after a while the gateway may stop reading, too.
    async fn flood(&mut self, bytes: &[u8]) -> bool {
        let writing = self.0.write_all(bytes);
        matches!(tokio::time::timeout(std::time::Duration::from_secs(2), writing).await, Ok(Ok(())))
    }

    /// All frames until the gateway closes or is silent for a while: their types, and the codes of GOAWAYs.
    async fn rest(&mut self) -> (Vec<u8>, Vec<u32>) {
        let mut bytes = Vec::new();
        let silence = std::time::Duration::from_secs(3);
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(Ok(read @ 1..)) = tokio::time::timeout(silence, self.0.read(&mut buffer)).await {
            bytes.extend_from_slice(&buffer[..read]);
        }
        let (mut kinds, mut codes) = (Vec::new(), Vec::new());
        let mut rest = bytes.as_slice();
        while let [a, b, c, kind, _, _, _, _, _, tail @ ..] = rest {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            kinds.push(*kind);
            if *kind == GOAWAY && tail.len() >= 8 {
                codes.push(u32::from_be_bytes([tail[4], tail[5], tail[6], tail[7]]));
            }
            rest = tail.get(length..).unwrap_or_default();
        }
        (kinds, codes)
    }
}

/// Runs an attack and sees the gateway well after it: it serves, its memory is bounded, nothing panicked, and the books
/// are what was billed. Gives the codes of the GOAWAYs that the attacker got.
async fn is_borne(attack: &[u8], settings: &[u8]) -> Vec<u32> {
    let sky = Sky::new().await;
    sky.first.always(Script::says("hello").prompt_tokens(sky.prompt));
    let codes = is_borne_by(&sky, attack, settings).await;
    sky.balances(0).await;
    codes
}

async fn is_borne_by(sky: &Sky, attack: &[u8], settings: &[u8]) -> Vec<u32> {
    sky.ask().await;
    let before = resident(sky.gateway.pid());
    let mut raw = Raw::open(sky, settings).await;
    let whole = raw.flood(attack).await;
    let other = tokio::time::timeout(PATIENCE, sky.ask()).await.expect("others wait for the attacker");
    assert_eq!(other.status, 200, "{other:?}");
    let (kinds, codes) = raw.rest().await;
    println!("flood taken whole: {whole}; {} frames back, GOAWAY {codes:?}", kinds.len());
    let grown = resident(sky.gateway.pid()).saturating_sub(before);
    assert!(grown < ROOM, "{grown} bytes more");
    // Answers that have come are settled, also those that nobody takes.
    sky.first.until(|tally| tally.open == 0).await;
    until("all is settled", async || sky.gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    drop(raw);
    sky.first.until(|tally| tally.open == 0).await;
    assert!(!sky.gateway.log().contains("panicked"), "{}", sky.gateway.log());
    assert_eq!(sky.ask().await.status, 200);
    codes
}

/// Streams `1`, `3`, … of `count`.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

/// CVE-2023-44487.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset_ends_the_connection() {
    const STREAMS: u32 = 20_000;
    let sky = Sky::new().await;
    let mut flood = chat("chain");
    flood["user"] = "flood".into();
    let (block, body) = (block(), flood.to_string());
    let mut attack = BytesMut::new();
    for stream in streams(STREAMS) {
        frame(&mut attack, HEADERS, END_HEADERS, stream, &block);
        frame(&mut attack, DATA, END_STREAM, stream, body.as_bytes());
        frame(&mut attack, RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
    // None of the flood is answered, so that all that is charged for it are prompts that were sent.
    let good = Script::says("hello").prompt_tokens(sky.prompt);
    let is_flood = |request: &Received| request.json()["user"] == "flood";
    sky.first.choose(move |request| if is_flood(request) { Script::stalls() } else { good.clone() });
    assert_eq!(is_borne_by(&sky, &attack, &[]).await, [11], "ENHANCE_YOUR_CALM");
    let arrived = sky.first.received().iter().filter(|request| is_flood(request)).count() as u64;
    until("all is settled", async || sky.gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
    let booked = (sky.gateway.metric("turnpike_cost_usd_total", &[]).await * 1e9).round() as u64;
    let sent = (booked - sky.billed() - sky.prompt * 2_000) / (sky.prompt * 2_000);
    println!("{sent} of {STREAMS} prompts were sent, {arrived} arrived");
    assert!((arrived..=u64::from(STREAMS)).contains(&sent), "{sent} sent, {arrived} arrived");
    sky.balances(sent).await;
}

/// CVE-2024-27316 and its kin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_never_end_end_the_connection() {
    let mut more = Vec::new();
    literal(&mut more, "x-filler", &"x".repeat(100));
    let more = more.repeat(100);
    let mut attack = BytesMut::new();
    frame(&mut attack, HEADERS, 0, 1, &block());
    for _ in 0..2_000 {
        frame(&mut attack, CONTINUATION, 0, 1, &more);
    }
    assert!(!is_borne(&attack, &[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_continuations_end_the_connection() {
    let mut attack = BytesMut::new();
    frame(&mut attack, HEADERS, 0, 1, &block());
    for _ in 0..100_000 {
        frame(&mut attack, CONTINUATION, 0, 1, &[]);
    }
    assert!(!is_borne(&attack, &[]).await.is_empty());
}

/// CVE-2019-9518.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_data_ends_the_connection() {
    let mut attack = BytesMut::new();
    frame(&mut attack, HEADERS, END_HEADERS, 1, &block());
    for _ in 0..200_000 {
        frame(&mut attack, DATA, 0, 1, &[]);
    }
    assert_eq!(is_borne(&attack, &[]).await, [11], "ENHANCE_YOUR_CALM");
}

/// CVE-2019-9512 and CVE-2019-9515: answers that nobody reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_and_settings_are_borne() {
    let mut attack = BytesMut::new();
    for number in 0..200_000_u64 {
        frame(&mut attack, PING, 0, 0, &number.to_be_bytes());
    }
    is_borne(&attack, &[]).await;
    let mut attack = BytesMut::new();
    for _ in 0..200_000 {
        frame(&mut attack, SETTINGS, 0, 0, &[]);
    }
    is_borne(&attack, &[]).await;
}

/// One large header put into the table, and asked for again and again (CVE-2016-6581).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_multiplies_is_refused() {
    let mut block = block();
    // Enters the dynamic table as entry 62: a literal with incremental indexing.
    block.extend_from_slice(&[0x40, 8]);
    block.extend_from_slice(b"x-filler");
    // 3,000 bytes, as 127 + 2,873 in the prefix code.
    block.extend_from_slice(&[0x7f, 0xb9, 0x16]);
    block.extend_from_slice(&[b'x'; 3_000]);
    block.extend_from_slice(&[0x80 | 62; 8_000]);
    let mut attack = BytesMut::new();
    for stream in streams(100) {
        frame(&mut attack, HEADERS, END_HEADERS | END_STREAM, stream, &block);
    }
    is_borne(&attack, &[]).await;
}

/// CVE-2019-9517: many answers asked for, with a window that takes none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_are_borne() {
    let (block, body) = (block(), chat("chain").to_string());
    let mut attack = BytesMut::new();
    for stream in streams(120) {
        frame(&mut attack, HEADERS, END_HEADERS, stream, &block);
        frame(&mut attack, DATA, END_STREAM, stream, body.as_bytes());
    }
    // SETTINGS_INITIAL_WINDOW_SIZE = 0.
    is_borne(&attack, &[0, 4, 0, 0, 0, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_out_of_order_and_out_of_shape_end_the_connection() {
    let block = block();
    let mut attacks: Vec<BytesMut> = Vec::new();
    let mut of = |kind, flags, stream, payload: &[u8]| {
        let mut attack = BytesMut::new();
        frame(&mut attack, kind, flags, stream, payload);
        attacks.push(attack);
    };
    of(DATA, END_STREAM, 1, b"{}");
    of(HEADERS, END_HEADERS, 2, &block);
    of(HEADERS, END_HEADERS, 1, &[0xff; 400]);
    of(CONTINUATION, END_HEADERS, 1, &block);
    of(PING, 0, 1, &[0; 8]);
    of(SETTINGS, 0, 0, &[0; 5]);
    of(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
    of(HEADERS, END_HEADERS, 1, &vec![0; 20_000]);
    let sky = Sky::new().await;
    sky.first.always(Script::says("hello").prompt_tokens(sky.prompt));
    for attack in attacks {
        let mut raw = Raw::open(&sky, &[]).await;
        raw.flood(&attack).await;
        let (_, codes) = raw.rest().await;
        assert!(!codes.is_empty(), "{:?}", &attack[..9.min(attack.len())]);
    }
    assert_eq!(sky.ask().await.status, 200);
    assert!(!sky.gateway.log().contains("panicked"), "{}", sky.gateway.log());
    sky.balances(0).await;
}
