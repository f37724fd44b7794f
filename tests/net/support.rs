//! Certificates made on the spot, upstreams that obey a script, and a service whose every step can be seen.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use turnpike::net::body::{Answer, UpstreamBody};
use turnpike::net::listener::{Drained, Limits, Load, bind, serve};
use turnpike::net::pool::{Options, Origin, Pool};
use turnpike::net::tls::{ServerTls, client_config};

/// Long enough never to matter.
pub const AMPLE: Duration = Duration::from_secs(20);

/// A path whose answer has its first event ready together with its head.
pub const EAGER: &str = "/eager";

/// Ends a test that hangs.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(AMPLE, future).await.expect("the test hangs")
}

/// A certificate authority and one certificate of it for `localhost` and 127.0.0.1, as PEM files.
pub struct Authority {
    pub folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let made = Authority { folder, issuer };
        std::fs::write(made.path("ca.pem"), made.issuer.pem()).unwrap();
        made.write_pair();
        made
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate and its key over the old.
    pub fn write_pair(&self) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("cert.pem"), cert.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    pub fn server(&self) -> Arc<ServerTls> {
        ServerTls::load(&self.path("cert.pem"), &self.path("key.pem")).unwrap()
    }

    /// A pool that trusts this authority and offers these protocols.
    pub fn pool(&self, alpn: &[&[u8]], options: Options) -> Pool {
        let mut config = (*client_config(Some(&self.path("ca.pem"))).unwrap()).clone();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Pool::with_options(Arc::new(config), options)
    }
}

/// A pool for plain upstreams.
pub fn plain_pool(options: Options) -> Pool {
    Pool::with_options(client_config(None).unwrap(), options)
}

pub fn post(body: &'static str) -> Request<UpstreamBody> {
    let body = UpstreamBody::from(Bytes::from_static(body.as_bytes()));
    Request::post("/v1/chat/completions?q=1").body(body).unwrap()
}

pub async fn text(answer: Response<Answer>) -> String {
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Sends one request and reads its answer to the end.
pub async fn ask(origin: &Origin, body: &'static str) -> String {
    text(origin.send(post(body), AMPLE).await.unwrap()).await
}

/// A listener for an upstream whose every byte the test writes itself.
pub async fn scripted() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    (listener, uri)
}

/// Reads a request whose body is `length` bytes long; `None` at the end of the stream.
pub async fn read_request(stream: &mut TcpStream, length: usize) -> Option<String> {
    let mut seen = Vec::new();
    loop {
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n")
            && seen.len() >= end + 4 + length
        {
            return Some(String::from_utf8(seen).unwrap());
        }
        stream.read_buf(&mut seen).await.ok().filter(|read| *read > 0)?;
    }
}

pub async fn answer(stream: &mut TcpStream, body: &str) {
    let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads until the stream ends or breaks.
pub async fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut seen = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut seen).await {}
    seen
}

/// What the service tells the test.
#[derive(Debug)]
pub enum Seen {
    /// A request came; frames sent through it are the answer's body, which ends when the sender is dropped.
    Request(Box<Request<Incoming>>, mpsc::UnboundedSender<Bytes>),
    /// An answer's body was dropped.
    Dropped,
}

/// A body that the test feeds, and whose end it hears of.
pub struct Fed {
    frames: mpsc::UnboundedReceiver<Bytes>,
    seen: mpsc::UnboundedSender<Seen>,
}

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames.poll_recv(cx).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        let _ = self.seen.send(Seen::Dropped);
    }
}

/// A running listener under test.
pub struct Server {
    pub address: SocketAddr,
    pub stop: watch::Sender<bool>,
    pub load: Arc<Load>,
    pub ended: JoinHandle<Drained>,
    pub seen: mpsc::UnboundedReceiver<Seen>,
}

impl Server {
    /// Serves with a service that hands each request, and the pen for its answer, to the test.
    pub async fn start(tls: Option<Arc<ServerTls>>, limits: Limits, drain: Duration) -> Server {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let (tell, seen) = mpsc::unbounded_channel();
        let load = Arc::clone(&limits.load);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let tell = tell.clone();
            async move {
                let (pen, frames) = mpsc::unbounded_channel();
                if request.uri().path() == EAGER {
                    pen.send(Bytes::from_static(b"data: eager\n\n")).unwrap();
                }
                let _ = tell.send(Seen::Request(Box::new(request), pen));
                Ok::<_, Infallible>(Response::new(Fed { frames, seen: tell }))
            }
        });
        let ended = tokio::spawn(serve(listener, tls, limits, stopped, drain, service));
        Server { address, stop, load, ended, seen }
    }

    pub fn uri(&self, scheme: &str) -> http::Uri {
        format!("{scheme}://localhost:{}/", self.address.port()).parse().unwrap()
    }

    /// The next request and the pen for its answer.
    pub async fn request(&mut self) -> (Request<Incoming>, mpsc::UnboundedSender<Bytes>) {
        loop {
            if let Seen::Request(request, pen) = self.seen.recv().await.unwrap() {
                return (*request, pen);
            }
        }
    }

    /// Waits until an answer's body is dropped.
    pub async fn dropped(&mut self) {
        while !matches!(self.seen.recv().await.unwrap(), Seen::Dropped) {}
    }
}

/// Serves every connection of a script in its own task and counts them.
pub fn serve_each<F, R>(listener: TcpListener, mut script: F) -> Arc<AtomicUsize>
where
    F: FnMut(usize, TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let place = counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(script(place, stream));
        }
    });
    count
}
