//! Which server a command talks to, and as whom: flags, environment, saved contexts, or the
//! `stoker up` of this machine.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use stoker_sdk::{Client, ClientConfig};

use super::Globals;
use super::exit::Failure;
use crate::environment::Environment;

/// Version tag of the contexts file.
const VERSION: u16 = 1;
/// What `stoker up` leaves in its data dir for clients on the same machine.
const LOCAL_FILE: &str = "client.toml";

/// A server, and the token for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// The server's base URL.
    pub(crate) server: String,
    /// The bearer token.
    #[serde(serialize_with = "expose")]
    pub(crate) token: SecretString,
    /// Certificates to trust beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_cert: Option<PathBuf>,
}

/// The one place where a token is written out.
fn expose<S: serde::Serializer>(token: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose_secret())
}

/// The contexts that were saved by `stoker login`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    version: u16,
    /// The one that is used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// Each by its name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// The saved contexts; none when there is no file.
    pub(crate) fn load(environment: &Environment) -> Result<Self, Failure> {
        let none = Self {
            version: VERSION,
            current: None,
            contexts: BTreeMap::new(),
        };
        let Ok(path) = path(environment) else {
            return Ok(none);
        };
        let saved: Self = match read_toml(&path)? {
            Some(saved) => saved,
            None => return Ok(none),
        };
        if saved.version == VERSION {
            Ok(saved)
        } else {
            Err(Failure::input(format!(
                "{}: version {} was written by another Stoker; this one reads {VERSION}",
                path.display(),
                saved.version
            )))
        }
    }

    /// Writes them, readable by their owner alone.
    pub(crate) fn save(&self, environment: &Environment) -> Result<PathBuf, Failure> {
        let path = path(environment).map_err(|error| Failure::input(error.to_string()))?;
        write_toml(&path, self).map_err(|error| Failure::file(&path, &error))?;
        Ok(path)
    }

    /// The context of that name.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            Failure::input(format!("there is no context {name:?}; there are: {known}"))
        })
    }
}

fn path(environment: &Environment) -> io::Result<PathBuf> {
    Ok(environment.config_dir()?.join("contexts.toml"))
}

/// Writes what clients on this machine need to find a `stoker up` with this data dir: `ca_cert` is
/// the certificate that it shows, which they trust.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn write_local(
    data_dir: &Path,
    server: &str,
    token: &SecretString,
    ca_cert: Option<&Path>,
) -> io::Result<()> {
    let context = Context {
        server: server.to_owned(),
        token: token.clone(),
        ca_cert: ca_cert.map(Path::to_owned),
    };
    write_toml(&data_dir.join(LOCAL_FILE), &context)
}

/// What a `stoker up` with this data dir has left; `None` when there was none.
fn read_local(data_dir: &Path) -> Result<Option<Context>, Failure> {
    read_toml(&data_dir.join(LOCAL_FILE))
}

/// The server and token for this command, from the first place that names a server: flags, the
/// named context, environment, the current context, the local `stoker up`. A saved token goes only
/// to the server that it was saved for.
pub(crate) fn resolve(globals: &Globals, environment: &Environment) -> Result<Context, Failure> {
    let mut context = match (&globals.server, &globals.context) {
        (Some(_), Some(_)) => {
            return Err(Failure::input("--server and --context exclude each other"));
        }
        (None, Some(name)) => {
            let mut named = Contexts::load(environment)?.get(name)?.clone();
            if let Some(token) = &globals.token {
                named.token = token.clone();
            }
            named
        }
        (server, None) => {
            let given = globals.token.as_ref().or(environment.token.as_ref());
            match server.as_ref().or(environment.server.as_ref()) {
                Some(server) => for_server(server, given, globals, environment)?,
                None => {
                    let mut saved = saved(globals, environment)?;
                    if let Some(token) = given {
                        saved.token = token.clone();
                    }
                    saved
                }
            }
        }
    };
    if let Some(path) = &globals.ca_cert {
        context.ca_cert = Some(path.clone());
    }
    Ok(context)
}

fn for_server(
    server: &str,
    token: Option<&SecretString>,
    globals: &Globals,
    environment: &Environment,
) -> Result<Context, Failure> {
    let same = |context: &Context| normal(&context.server) == normal(server);
    let known = || -> Result<Option<Context>, Failure> {
        let contexts = Contexts::load(environment)?.contexts.into_values();
        let local = local(globals, environment)?;
        Ok(contexts.chain(local).find(same))
    };
    if let Some(token) = token {
        return Ok(Context {
            server: server.to_owned(),
            token: token.clone(),
            ca_cert: known().ok().flatten().and_then(|context| context.ca_cert),
        });
    }
    known()?.ok_or_else(|| {
        Failure::new(
            super::exit::Exit::Auth,
            format!("there is no token for {server}: set STOKER_TOKEN, or run `stoker login`"),
        )
    })
}

fn normal(server: &str) -> &str {
    server.trim_end_matches('/')
}

fn saved(globals: &Globals, environment: &Environment) -> Result<Context, Failure> {
    let contexts = Contexts::load(environment)?;
    if let Some(current) = &contexts.current {
        return contexts.get(current).cloned();
    }
    local(globals, environment)?.ok_or_else(|| {
        Failure::input(
            "no server is known: start one with `stoker up`, or run \
             `stoker login --server URL --token-stdin`, or set STOKER_SERVER and STOKER_TOKEN",
        )
    })
}

fn local(globals: &Globals, environment: &Environment) -> Result<Option<Context>, Failure> {
    data_dir(globals, environment).map_or(Ok(None), |data_dir| read_local(&data_dir))
}

/// Where this machine's state is, when that is known.
pub(crate) fn data_dir(globals: &Globals, environment: &Environment) -> Option<PathBuf> {
    let given = globals.data_dir.clone();
    given.or_else(|| environment.data_dir().ok())
}

/// A client for this command.
pub(crate) fn connect(globals: &Globals, environment: &Environment) -> Result<Client, Failure> {
    client(&resolve(globals, environment)?)
}

/// A client of that server.
pub(crate) fn client(context: &Context) -> Result<Client, Failure> {
    let config = ClientConfig {
        token: context.token.clone(),
        ca_cert: context.ca_cert.clone(),
        ..ClientConfig::new(&context.server, "")
    };
    Ok(Client::new(config)?)
}

pub(super) fn read_toml<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::file(path, &error)),
    };
    // The message alone: the whole error shows the line, which may hold a token.
    let parsed = toml::from_str(&text).map_err(|error| {
        Failure::input(format!(
            "{} can't be read: {}",
            path.display(),
            error.message()
        ))
    })?;
    Ok(Some(parsed))
}

/// Replaces a file in one step; only its owner may read it.
pub(super) fn write_toml<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let text = toml::to_string(value).map_err(io::Error::other)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let written = write_private(&part, &text).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // Best effort: what counts is why it couldn't be written.
        let _ = fs::remove_file(&part);
    }
    written?;
    File::open(dir)?.sync_all()
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    // A part of an earlier process with the same id would keep its own mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
