//! A name server of our own on loopback, over UDP.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_resolver::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SRV},
    },
};
use tokio::{net::UdpSocket, task::JoinHandle};

/// What a name is answered with.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These addresses.
    Addresses(Vec<Ipv4Addr>),
    /// SRV records: priority, weight, port, target.
    Services(Vec<(u16, u16, u16, &'static str)>),
    /// The name is there, with nothing of that kind.
    Nothing,
    /// The server fails.
    Failure,
    /// No answer.
    Silence,
}

/// A running name server. Dropping it ends it.
pub struct Names {
    address: SocketAddr,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    task: JoinHandle<()>,
}

impl Names {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (replies, asked) = <(Arc<Mutex<HashMap<String, Reply>>>, Arc<Mutex<HashMap<_, _>>>)>::default();
        let task = tokio::spawn(serve(socket, Arc::clone(&replies), Arc::clone(&asked)));
        Self { address, replies, asked, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `name` is answered so; names that are not set do not exist.
    pub fn set(&self, name: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(name.to_owned(), reply);
    }

    /// How often a name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    socket: UdpSocket,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    asked: Arc<Mutex<HashMap<String, usize>>>,
) {
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let name = query.queries[0].name.to_ascii().to_ascii_lowercase();
        let name = name.trim_end_matches('.').to_owned();
        let reply = replies.lock().unwrap().get(&name).cloned();
        if let Some(answer) = answer(&query, reply) {
            let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
        }
        *asked.lock().unwrap().entry(name).or_default() += 1;
    }
}

fn answer(query: &Message, reply: Option<Reply>) -> Option<Message> {
    let asked = &query.queries[0];
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.add_query(asked.clone());
    answer.metadata.recursion_available = true;
    let mut add = |data| {
        answer.add_answer(Record::from_rdata(asked.name.clone(), 1, data));
    };
    match reply {
        Some(Reply::Addresses(ips)) if asked.query_type == RecordType::A => {
            ips.into_iter().for_each(|ip| add(RData::A(A(ip))));
        }
        Some(Reply::Services(services)) if asked.query_type == RecordType::SRV => {
            for (priority, weight, port, target) in services {
                add(RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(target).unwrap())));
            }
        }
        Some(Reply::Addresses(_) | Reply::Services(_) | Reply::Nothing) => {}
        Some(Reply::Failure) => answer.metadata.response_code = ResponseCode::ServFail,
        Some(Reply::Silence) => return None,
        None => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(answer)
}
