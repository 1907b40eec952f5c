//! `stoker login` and `stoker context`: servers and tokens that are remembered.

use std::io::Read;

use clap::{Args, Subcommand};
use secrecy::SecretString;
use serde_json::json;
use stoker_domain::id::check_name;
use stoker_sdk::JobQuery;

use super::context::{self, Context, Contexts};
use super::exit::Failure;
use super::table::Table;
use super::{Globals, Output};
use crate::environment::Environment;

/// Longest token that is read, in bytes.
const TOKEN_MAX_BYTES: u64 = 64 * 1024;
/// The context's name when none is given.
const DEFAULT_NAME: &str = "default";

/// How to log in. The server is `--server`, the name `--context`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Read the token from standard input.
    #[arg(long)]
    token_stdin: bool,
    /// Save it without asking the server whether it is valid.
    #[arg(long)]
    skip_check: bool,
}

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List contexts; the current one has a star.
    List,
    /// Make a context the current one.
    Use {
        /// Its name.
        name: String,
    },
    /// Show which server this command line would talk to.
    Show,
}

/// Checks a token and saves it with its server, as the current context.
pub(super) async fn run(
    arguments: &Arguments,
    globals: &Globals,
    environment: &Environment,
    output: &Output,
) -> Result<(), Failure> {
    let server = globals.server.clone().ok_or_else(|| {
        Failure::input("--server is missing: stoker login --server URL --token-stdin")
    })?;
    let name = globals.context.as_deref().unwrap_or(DEFAULT_NAME);
    check_name(name).map_err(|error| Failure::input(format!("--context: {error}")))?;
    let ca_cert = match &globals.ca_cert {
        Some(path) => {
            let full = std::path::absolute(path).map_err(|error| Failure::file(path, &error))?;
            Some(full)
        }
        None => None,
    };
    let context = Context {
        server,
        token: token(arguments, globals)?,
        ca_cert,
    };
    let client = context::client(&context)?;
    if !arguments.skip_check {
        let query = JobQuery {
            limit: Some(1),
            ..JobQuery::default()
        };
        client.list_jobs(&query).await?;
    }
    let mut contexts = Contexts::load(environment)?;
    contexts.contexts.insert(name.to_owned(), context);
    contexts.current = Some(name.to_owned());
    let path = contexts.save(environment)?;
    if output.json() {
        return output.document(&json!({ "context": name, "server": client.server() }));
    }
    if in_clear(client.server()) {
        output.note("warning: the token goes to this server unencrypted; use https");
    }
    output.line(&format!(
        "{} is now the context {name}, in {}",
        client.server(),
        path.display()
    ));
    Ok(())
}

/// Whether requests to this server cross a network unencrypted.
fn in_clear(server: &str) -> bool {
    let Some(rest) = server.strip_prefix("http://") else {
        return false;
    };
    let local = ["127.", "localhost", "[::1]"];
    !local.iter().any(|host| rest.starts_with(host))
}

fn token(arguments: &Arguments, globals: &Globals) -> Result<SecretString, Failure> {
    if !arguments.token_stdin {
        let told = "the token is missing: give --token-stdin and the token on standard input";
        return globals.token.clone().ok_or_else(|| Failure::input(told));
    }
    let mut text = String::new();
    std::io::stdin()
        .take(TOKEN_MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| Failure::file("standard input".as_ref(), &error))?;
    match text.trim() {
        "" => Err(Failure::input("standard input holds no token")),
        token => Ok(SecretString::from(token)),
    }
}

/// Runs a verb.
pub(super) fn context(
    command: ContextCommand,
    globals: &Globals,
    environment: &Environment,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        ContextCommand::List => list(&Contexts::load(environment)?, output),
        ContextCommand::Use { name } => {
            let mut contexts = Contexts::load(environment)?;
            let server = contexts.get(&name)?.server.clone();
            contexts.current = Some(name.clone());
            contexts.save(environment)?;
            match output.json() {
                true => output.document(&json!({ "context": name, "server": server }))?,
                false => output.line(&format!("{name} is now the current context: {server}")),
            }
            Ok(())
        }
        ContextCommand::Show => {
            let found = context::resolve(globals, environment)?;
            if output.json() {
                return output.document(&json!({
                    "server": found.server, "ca_cert": found.ca_cert,
                }));
            }
            let mut table = Table::of_fields();
            table.field("server", found.server);
            if let Some(path) = found.ca_cert {
                table.field("ca cert", path.display().to_string());
            }
            output.line(&table.render());
            Ok(())
        }
    }
}

fn list(contexts: &Contexts, output: &Output) -> Result<(), Failure> {
    let current = contexts.current.as_deref();
    if output.json() {
        let list: Vec<_> = contexts
            .contexts
            .iter()
            .map(|(name, context)| {
                json!({
                    "name": name, "server": context.server,
                    "current": Some(name.as_str()) == current,
                })
            })
            .collect();
        return output.document(&json!({ "contexts": list }));
    }
    let mut table = Table::new(["", "CONTEXT", "SERVER"]);
    for (name, context) in &contexts.contexts {
        let star = if Some(name.as_str()) == current {
            "*"
        } else {
            ""
        };
        table.row([star.to_owned(), name.clone(), context.server.clone()]);
    }
    output.line(&table.render());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_network_that_is_not_this_machine_is_warned_about() {
        assert!(in_clear("http://example.org/"));
        for server in [
            "https://example.org/",
            "http://127.0.0.1:8080/",
            "http://[::1]:1/",
        ] {
            assert!(!in_clear(server), "{server}");
        }
    }
}
