//! What a file declares, value by value with its place, before anything is asked of the whole.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::endpoint::Address;
use super::keys::KeyError;
use super::limits;
use super::model::{Client, Confirm, Fabric, Http, Keep, Kind, PublicKey};
use super::name::check_name;
use super::problem::Problems;
use super::table::{At, Declared, Table, Value, shorten};
use crate::types::limits::ENDPOINTS_MAX;
use crate::types::{Limits, NodeName, Pattern, Span};

/// A whole file. Values that could not be read are absent and already reported.
#[derive(Debug)]
pub(super) struct Draft {
    /// The place of what is said of the fabric as a whole.
    pub(super) span: Range<usize>,
    pub(super) fabric: Option<Fabric>,
    pub(super) defaults: ChannelDraft,
    pub(super) nodes: Vec<NodeDraft>,
    /// Those that could be read.
    pub(super) clients: Vec<(Client, Range<usize>)>,
    /// How many clients are declared, whatever they read as.
    pub(super) client_count: usize,
    pub(super) channels: Vec<ChannelDraft>,
    pub(super) limits: Limits,
    /// Where each limit is declared, by name.
    pub(super) limits_at: Vec<(&'static str, Range<usize>)>,
}

#[derive(Debug)]
pub(super) struct NodeDraft {
    /// Its header.
    pub(super) span: Range<usize>,
    pub(super) name: Option<At<NodeName>>,
    /// Absent if not declared: then the node's own name.
    pub(super) host: Option<At<String>>,
    pub(super) zone: Option<At<String>>,
    pub(super) clients: Vec<Socket>,
    pub(super) peers: Option<Socket>,
    pub(super) signals: Option<Socket>,
    pub(super) http: Option<At<Http>>,
    pub(super) data: Option<PathBuf>,
    pub(super) public_key: Option<At<PublicKey>>,
    pub(super) secret_key_file: Option<At<PathBuf>>,
}

/// A declared endpoint.
#[derive(Debug, Clone)]
pub(super) struct Socket {
    pub(super) bind: At<Address>,
    pub(super) advertise: Option<At<Address>>,
}

/// One channel, or the defaults of all.
#[derive(Debug, Default)]
pub(super) struct ChannelDraft {
    /// Its header; for the defaults too.
    pub(super) span: Range<usize>,
    /// As messages show it: what is no name is shortened.
    pub(super) name: String,
    pub(super) kind: Declared<Kind>,
    /// Those that could be read.
    pub(super) subjects: Vec<At<Pattern>>,
    pub(super) partitions: Declared<u32>,
    pub(super) replicas: Declared<u32>,
    pub(super) confirm: Declared<Confirm>,
    pub(super) keep: Declared<Keep>,
    pub(super) max_record: Declared<u64>,
}

impl Socket {
    /// What others connect to.
    pub(super) fn reached_at(&self) -> &Address {
        self.advertise
            .as_ref()
            .map_or(&self.bind.value, |at| &at.value)
    }

    /// Whether it speaks CURVE.
    pub(super) fn curve(&self) -> bool {
        !self.bind.value.is_local()
    }
}

impl NodeDraft {
    /// Its name in messages.
    pub(super) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("node {}", name.value),
            None => "a node without a name".to_owned(),
        }
    }

    pub(super) fn host(&self) -> Option<&str> {
        let declared = self.host.as_ref().map(|host| host.value.as_str());
        declared.or(self.name.as_ref().map(|name| name.value.as_str()))
    }

    /// Every endpoint it binds, with the key that declares it.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (&'static str, &Socket)> {
        let clients = self.clients.iter().map(|socket| ("clients", socket));
        let peers = self.peers.iter().map(|socket| ("peers", socket));
        clients
            .chain(peers)
            .chain(self.signals.iter().map(|socket| ("signals", socket)))
    }
}

impl Draft {
    /// Reads every value of `root`; `folder` is where relative paths start.
    pub(super) fn read(mut root: Table, folder: &Path, problems: &mut Problems) -> Self {
        let mut span = 0..0;
        let fabric = root
            .need("fabric", "{ name = \"…\" }", problems)
            .and_then(|value| {
                span = value.span();
                read_fabric(value, problems)
            });
        let defaults = root.take("defaults").and_then(|value| {
            let mut table = value.table("[defaults]", "{ replicas = 3 }", problems)?;
            let draft = read_channel("defaults", &mut table, problems);
            table.finish(problems);
            Some(draft)
        });
        let nodes = root
            .take("node")
            .map(|value| value.tables(problems))
            .unwrap_or_default();
        let nodes = nodes
            .into_iter()
            .map(|table| read_node(table, folder, problems))
            .collect();
        let clients = root
            .take("client")
            .map(|value| value.tables(problems))
            .unwrap_or_default();
        let client_count = clients.len();
        let clients = clients
            .into_iter()
            .filter_map(|table| read_client(table, problems))
            .collect();
        let channels = root.take("channel").and_then(|value| {
            let example = "{ orders = { kind = \"stream\", subjects = [\"orders.#\"] } }";
            value.table("[channel]", example, problems)
        });
        let channels = channels
            .map(|table| read_channels(table, problems))
            .unwrap_or_default();
        let (limits, limits_at) = match root.take("limits") {
            Some(value) => limits::read(value, problems),
            None => (Limits::default(), Vec::new()),
        };
        root.finish(problems);
        Self {
            span,
            fabric,
            defaults: defaults.unwrap_or_default(),
            nodes,
            clients,
            client_count,
            channels,
            limits,
            limits_at,
        }
    }
}

fn read_fabric(value: Value, problems: &mut Problems) -> Option<Fabric> {
    let mut table = value.table("[fabric]", "{ name = \"shop\" }", problems)?;
    let name = table
        .need("name", "\"shop\"", problems)
        .and_then(|value| read_name(value, problems));
    let epoch = match table.take("epoch") {
        Some(value) => value.count(problems).map(|epoch| epoch.value),
        None => Some(1),
    };
    table.finish(problems);
    Some(Fabric {
        name: name?.value,
        epoch: epoch?,
    })
}

fn read_client(mut table: Table, problems: &mut Problems) -> Option<(Client, Range<usize>)> {
    let span = table.span.clone();
    let name = table
        .need("name", "\"billing\"", problems)
        .and_then(|value| read_name(value, problems));
    let key = table
        .need(
            "public_key",
            "\"…\" as `weft keys new --for client NAME` prints it",
            problems,
        )
        .and_then(|value| read_key(value, problems));
    table.finish(problems);
    let client = Client {
        name: name?.value,
        public_key: key?.value,
    };
    Some((client, span))
}

fn read_node(mut table: Table, folder: &Path, problems: &mut Problems) -> NodeDraft {
    let span = table.span.clone();
    let name = table
        .need("name", "\"a\"", problems)
        .and_then(|value| read_name(value, problems));
    let host = table
        .take("host")
        .and_then(|value| read_word(value, problems));
    let zone = table
        .take("zone")
        .and_then(|value| read_word(value, problems));
    let mut advertise = table.take("advertise").and_then(|value| {
        let example = "{ clients = \"tcp://HOST:PORT\" }";
        value.table(format!("`{}`", value.key), example, problems)
    });
    let mut sockets = |key: &'static str, example: &str, problems: &mut Problems| {
        let binds = table.need(key, example, problems);
        let advertised = advertise.as_mut().and_then(|table| table.take(key));
        read_sockets(key, binds, advertised, folder, problems)
    };
    let clients = sockets("clients", "\"tcp://127.0.0.1:7101\"", problems);
    let peers = sockets("peers", "\"tcp://127.0.0.1:7102\"", problems);
    let signals = sockets("signals", "\"tcp://127.0.0.1:7103\"", problems);
    if let Some(advertise) = advertise {
        advertise.finish(problems);
    }
    let path = |value: Option<Value>, problems: &mut Problems| {
        let path = value?.string(problems)?;
        Some(path.map(|path| folder.join(path)))
    };
    let http = read_http(&mut table, problems);
    let data = path(table.take("data"), problems).map(|at| at.value);
    let public_key = table
        .take("public_key")
        .and_then(|value| read_key(value, problems));
    let secret_key_file = path(table.take("secret_key_file"), problems);
    table.finish(problems);
    NodeDraft {
        span,
        name: name.map(|name| name.map(|name| name.as_str().into())),
        host,
        zone,
        clients,
        peers: peers.into_iter().next(),
        signals: signals.into_iter().next(),
        http,
        data,
        public_key,
        secret_key_file,
    }
}

/// `http`, and whether the file says that others may reach it.
fn read_http(table: &mut Table, problems: &mut Problems) -> Option<At<Http>> {
    let open = table.take("http_open");
    let open = open.and_then(|value| value.switch(problems));
    let text = table.take("http")?.string(problems)?;
    let wrong = |why: String, problems: &mut Problems| {
        problems.error(
            &text.span,
            format!("{:?} is no address to serve http on", shorten(&text.value)),
            why,
            "write `http://ADDRESS:PORT`, as in http://127.0.0.1:7104",
        );
        None
    };
    let Some(rest) = text.value.strip_prefix("http://") else {
        return wrong("it does not begin with http://".to_owned(), problems);
    };
    match Address::parse(&format!("tcp://{rest}"), Path::new("")) {
        Ok(address) => match address.as_socket() {
            Some(bind) => {
                let open = open.is_some_and(|open| open.value);
                Some(At::new(Http { bind, open }, text.span))
            }
            None => wrong("a node binds an address, not a name".to_owned(), problems),
        },
        Err((why, _)) => wrong(why, problems),
    }
}

/// The endpoints of one key, as far as they could be read.
fn read_sockets(
    key: &'static str,
    binds: Option<Value>,
    advertised: Option<Value>,
    folder: &Path,
    problems: &mut Problems,
) -> Vec<Socket> {
    let Some(value) = binds else {
        return Vec::new();
    };
    let span = value.span();
    let before = problems.len();
    let binds = read_addresses(key, value, folder, problems);
    let advertised = advertised.map(|value| {
        let span = value.span();
        (read_addresses(key, value, folder, problems), span)
    });
    let whole = problems.len() == before;
    if whole && !(1..=ENDPOINTS_MAX).contains(&binds.len()) {
        problems.error(
            &span,
            format!("`{key}` lists {} endpoints", binds.len()),
            "each is a socket of its own, and without one nobody could reach the node",
            format!("name 1 to {ENDPOINTS_MAX}, as in \"tcp://127.0.0.1:7101\""),
        );
        return Vec::new();
    }
    let mut sockets: Vec<Socket> = binds
        .into_iter()
        .map(|bind| Socket {
            bind,
            advertise: None,
        })
        .collect();
    let Some((advertised, span)) = advertised else {
        return sockets;
    };
    let is_tcp = |socket: &&mut Socket| matches!(socket.bind.value, Address::Tcp { .. });
    let tcp = sockets.iter_mut().filter(is_tcp).count();
    if whole && advertised.len() != tcp {
        problems.error(
            &span,
            format!(
                "`{key}` advertises {} addresses for {tcp} tcp endpoints",
                advertised.len()
            ),
            "each tcp endpoint is advertised by one address, in the same order; ipc by none",
            format!("list {tcp} of them"),
        );
    }
    for (socket, address) in sockets.iter_mut().filter(is_tcp).zip(advertised) {
        socket.advertise = Some(address);
    }
    sockets
}

/// The addresses that could be read; the others are reported.
fn read_addresses(
    key: &'static str,
    value: Value,
    folder: &Path,
    problems: &mut Problems,
) -> Vec<At<Address>> {
    let texts = match key {
        "clients" => value.strings(problems),
        _ => value.string(problems).into_iter().collect(),
    };
    let mut addresses = Vec::new();
    for text in texts {
        match Address::parse(&text.value, folder) {
            Ok(address) => addresses.push(At::new(address, text.span)),
            Err((why, remedy)) => {
                let message = format!("{:?} is no endpoint", shorten(&text.value));
                problems.error(&text.span, message, why, remedy);
            }
        }
    }
    addresses
}

fn read_channels(mut table: Table, problems: &mut Problems) -> Vec<ChannelDraft> {
    let mut channels = Vec::new();
    for (name, value) in table.take_all() {
        let label = match check_name(name.value) {
            Ok(()) => name.value.to_owned(),
            Err(why) => {
                problems.error(
                    &name.span,
                    format!("{:?} is no name for a channel", shorten(name.value)),
                    why.to_string(),
                    "rename the channel",
                );
                shorten(name.value)
            }
        };
        let what = format!("[channel.{label}]");
        let example = format!("{{ kind = \"stream\", subjects = [\"{label}.#\"] }}");
        if let Some(mut table) = value.table(what, &example, problems) {
            let mut channel = read_channel(&label, &mut table, problems);
            read_subjects(&mut table, &mut channel, problems);
            table.finish(problems);
            channels.push(channel);
        }
    }
    channels
}

/// Everything that the defaults have too.
fn read_channel(name: &str, table: &mut Table, problems: &mut Problems) -> ChannelDraft {
    let kinds = [("signal", Kind::Signal), ("stream", Kind::Stream)];
    let confirms = [("none", Confirm::None), ("quorum", Confirm::Quorum)];
    let small = |value: Value, problems: &mut Problems| {
        let count = value.count(problems)?;
        Some(count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
    };
    ChannelDraft {
        span: table.span.clone(),
        name: name.to_owned(),
        kind: Declared::read(table.take("kind"), problems, |value, problems| {
            read_choice(value, &kinds, problems)
        }),
        subjects: Vec::new(),
        partitions: Declared::read(table.take("partitions"), problems, small),
        replicas: Declared::read(table.take("replicas"), problems, small),
        confirm: Declared::read(table.take("confirm"), problems, |value, problems| {
            read_choice(value, &confirms, problems)
        }),
        keep: Declared::read(table.take("keep"), problems, read_keep),
        max_record: Declared::read(table.take("max_record"), problems, Value::size),
    }
}

fn read_subjects(table: &mut Table, channel: &mut ChannelDraft, problems: &mut Problems) {
    let example = format!("[\"{}.#\"]", channel.name);
    let Some(value) = table.need("subjects", &example, problems) else {
        return;
    };
    let before = problems.len();
    let span = value.span();
    let subjects = value.strings(problems);
    if subjects.is_empty() && problems.len() == before {
        problems.error(
            &span,
            format!("channel {} captures no subject", channel.name),
            "nothing could be published to it",
            format!("write `subjects = {example}`"),
        );
    }
    for text in subjects {
        match Pattern::parse(&text.value) {
            Ok(pattern) => channel.subjects.push(At::new(pattern, text.span)),
            Err(error) => problems.error(
                &text.span,
                format!("{:?} is no pattern of subjects", shorten(&text.value)),
                error.to_string(),
                format!("write words with dots between, `*` for one, `#` last, as in {example}"),
            ),
        }
    }
}

fn read_keep(value: Value, problems: &mut Problems) -> Option<At<Keep>> {
    let span = value.span();
    let mut table = value.table("`keep`", &keep_example(&value), problems)?;
    let keep = Keep {
        age: table
            .take("age")
            .and_then(|value| value.age(problems))
            .map(|age| Span(age.value)),
        size: table
            .take("size")
            .and_then(|value| value.size(problems))
            .map(|size| size.value),
        count: table
            .take("count")
            .and_then(|value| value.count(problems))
            .map(|at| at.value),
    };
    table.finish(problems);
    Some(At::new(keep, span))
}

/// How `keep` is written, by what was meant where that can be told.
fn keep_example(value: &Value) -> String {
    match value.as_text() {
        Some(age) if humantime::parse_duration(age).is_ok() => {
            format!("{{ age = {:?} }}", shorten(age))
        }
        Some(size) if size.parse::<bytesize::ByteSize>().is_ok() => {
            format!("{{ size = {:?} }}", shorten(size))
        }
        _ if value.is_count() => "{ count = 1000000 }".to_owned(),
        _ => "{ age = \"30d\", size = \"10 GiB\" }".to_owned(),
    }
}

fn read_choice<T: Copy>(
    value: Value,
    choices: &[(&str, T)],
    problems: &mut Problems,
) -> Option<At<T>> {
    let key = value.key.to_owned();
    let text = value.string(problems)?;
    let found = choices.iter().find(|(name, _)| *name == text.value);
    if found.is_none() {
        let names: Vec<String> = choices
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        problems.error(
            &text.span,
            format!("`{key}` cannot be {:?}", shorten(&text.value)),
            format!("there is no such {key}"),
            format!("write {}", names.join(" or ")),
        );
    }
    found.map(|(_, choice)| At::new(*choice, text.span))
}

fn read_name(value: Value, problems: &mut Problems) -> Option<At<String>> {
    let name = value.string(problems)?;
    match check_name(&name.value) {
        Ok(()) => Some(name),
        Err(why) => {
            problems.error(
                &name.span,
                format!("{:?} is no name", shorten(&name.value)),
                why.to_string(),
                "choose another name",
            );
            None
        }
    }
}

/// The name of a host or zone: any text that a table can show.
fn read_word(value: Value, problems: &mut Problems) -> Option<At<String>> {
    let key = value.key.to_owned();
    let word = value.string(problems)?;
    if !word.value.is_empty()
        && word.value.len() <= 253
        && !word.value.chars().any(char::is_control)
    {
        return Some(word);
    }
    problems.error(
        &word.span,
        format!("`{key}` cannot be {:?}", shorten(&word.value)),
        "it is a name of 1 to 253 bytes without control characters",
        format!("write the name of the {key}, or leave the line out"),
    );
    None
}

fn read_key(value: Value, problems: &mut Problems) -> Option<At<PublicKey>> {
    let text = value.string(problems)?;
    match PublicKey::parse(&text.value) {
        Ok(key) => Some(At::new(key, text.span)),
        Err(error) => {
            let why = match &error {
                KeyError::Length(_) | KeyError::Character(_) | KeyError::Overflow(..) => {
                    error.to_string()
                }
                KeyError::Missing(_) | KeyError::BadLine(_) => "it is not a key".to_owned(),
            };
            problems.error(
                &text.span,
                format!("{:?} is no public key", shorten(&text.value)),
                why,
                "write the key that `weft keys new` printed",
            );
            None
        }
    }
}
