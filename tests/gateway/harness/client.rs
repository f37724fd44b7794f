//! A small HTTP client: one connection a request, nothing retried, nothing decoded.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{PATIENCE, transcript::Transcript};

/// Where to ask, and the headers that every request carries.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    headers: Vec<(String, String)>,
}

impl Client {
    /// A client without headers.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, headers: Vec::new() }
    }

    /// With a further header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A whole answer to a GET, or why there is none.
    pub async fn try_get(&self, path: &str) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        Answer::read(self.send("GET", path, Bytes::new()).await?).await
    }

    /// A whole answer to a GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.unwrap()
    }

    /// A whole answer to a POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_bytes(path, body.to_string()).await
    }

    /// A whole answer to a POST of JSON, or why there is none.
    pub async fn try_post(&self, path: &str, body: &Value) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        Answer::read(self.send("POST", path, body.to_string().into()).await?).await
    }

    /// A whole answer to a POST of these bytes.
    pub async fn post_bytes(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        Answer::read(self.send("POST", path, body.into()).await.unwrap()).await.unwrap()
    }

    /// The head of an answer to a POST of JSON, with its body still to come.
    pub async fn post_stream(&self, path: &str, body: &Value) -> Stream {
        self.post_bytes_stream(path, body.to_string()).await
    }

    /// The head of an answer to a POST of these bytes, with its body still to come.
    pub async fn post_bytes_stream(&self, path: &str, body: impl Into<Bytes>) -> Stream {
        let (head, body) = self.send("POST", path, body.into()).await.unwrap().into_parts();
        Stream { status: head.status, headers: head.headers, body }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let sending = async {
            let stream = TcpStream::connect(self.address).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let mut request = Request::builder().method(method).uri(path).header("host", self.address.to_string());
            if method == "POST" {
                request = request.header("content-type", "application/json");
            }
            for (name, value) in &self.headers {
                request = request.header(name, value);
            }
            Ok(sender.send_request(request.body(Full::new(body))?).await?)
        };
        tokio::time::timeout(PATIENCE, sending).await?
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await??.to_bytes();
        Ok(Self { status: head.status, headers: head.headers, body })
    }

    /// A header's value; "" where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// `error.code`; "" where there is none.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// `error.message`.
    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The text of the first choice.
    pub fn content(&self) -> String {
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }

    /// Fails unless status and code are these; the error must have OpenAI's shape.
    #[track_caller]
    pub fn is_refused(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.code().as_str()), (status, code), "{self:?}");
        let error = &self.json()["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
        assert!(error.as_object().is_some_and(|fields| fields.contains_key("param")), "{error}");
        assert!(!self.header("x-request-id").is_empty(), "{self:?}");
        assert!(!self.header("x-should-retry").is_empty(), "{self:?}");
    }

    /// Fails unless this is a good answer with that text.
    #[track_caller]
    pub fn says(&self, text: &str) {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.content(), text, "{self:?}");
    }
}

/// An answer whose body is still coming.
pub struct Stream {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Stream {
    /// The next bytes; `None` at the end. A broken connection is an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.unwrap()?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// Reads until `text` has come; what came until then.
    pub async fn read_until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let Some(Ok(bytes)) = self.next().await else { panic!("`{text}` did not come, only: {seen}") };
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        seen
    }

    /// Everything up to the end.
    pub async fn transcript(mut self) -> Transcript {
        let mut bytes = Vec::new();
        let mut broken = false;
        while let Some(next) = self.next().await {
            match next {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        Transcript::new(self.status, self.headers, bytes, broken)
    }
}
