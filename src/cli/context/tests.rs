use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::cli::exit::Exit;

struct Machine {
    dir: tempfile::TempDir,
    environment: Environment,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment {
            home: Some(dir.path().to_owned()),
            ..Environment::default()
        };
        Self { dir, environment }
    }

    fn with_contexts(self, current: Option<&str>) -> Self {
        let contexts = ["one", "two"].map(|name| (name.to_owned(), context(name)));
        let saved = Contexts {
            version: VERSION,
            current: current.map(str::to_owned),
            contexts: BTreeMap::from(contexts),
        };
        saved.save(&self.environment).unwrap();
        self
    }

    fn with_local(self) -> Self {
        let data_dir = self.environment.data_dir().unwrap();
        write_local(
            &data_dir,
            "http://local",
            &SecretString::from("t-local"),
            None,
        )
        .unwrap();
        self
    }

    fn resolve(&self, globals: &Globals) -> Result<(String, String), Failure> {
        let context = resolve(globals, &self.environment)?;
        Ok((context.server, context.token.expose_secret().to_owned()))
    }
}

fn context(name: &str) -> Context {
    Context {
        server: format!("http://{name}"),
        token: SecretString::from(format!("t-{name}")),
        ca_cert: None,
    }
}

fn pair(server: &str, token: &str) -> Result<(String, String), Failure> {
    Ok((server.to_owned(), token.to_owned()))
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn secret(value: &str) -> Option<SecretString> {
    Some(SecretString::from(value))
}

#[test]
fn flags_come_before_environment_before_context_before_the_local_server() {
    let mut machine = Machine::new().with_local();
    let none = Globals::default();
    assert_eq!(machine.resolve(&none), pair("http://local", "t-local"));

    machine = machine.with_contexts(Some("one"));
    assert_eq!(machine.resolve(&none), pair("http://one", "t-one"));

    machine.environment.server = text("http://env");
    machine.environment.token = secret("t-env");
    assert_eq!(machine.resolve(&none), pair("http://env", "t-env"));

    let mut flags = Globals {
        server: text("http://flag"),
        token: secret("t-flag"),
        ..Globals::default()
    };
    assert_eq!(machine.resolve(&flags), pair("http://flag", "t-flag"));

    let named = Globals {
        context: text("two"),
        ..Globals::default()
    };
    assert_eq!(machine.resolve(&named), pair("http://two", "t-two"));
    flags.context = text("two");
    assert_eq!(machine.resolve(&flags).unwrap_err().exit, Exit::Input);
}

#[test]
fn a_saved_token_goes_only_to_the_server_it_was_saved_for() {
    let machine = Machine::new().with_contexts(Some("one")).with_local();
    let at = |server: &str| Globals {
        server: text(server),
        ..Globals::default()
    };
    assert_eq!(
        machine.resolve(&at("http://two/")),
        pair("http://two", "t-two")
    );
    assert_eq!(
        machine.resolve(&at("http://evil")).unwrap_err().exit,
        Exit::Auth
    );
    let failure = machine.resolve(&at("http://two.evil")).unwrap_err();
    assert_eq!(failure.exit, Exit::Auth);
}

#[test]
fn a_token_alone_is_for_the_server_that_would_be_asked() {
    let mut machine = Machine::new().with_contexts(Some("one"));
    machine.environment.token = secret("t-env");
    assert_eq!(
        machine.resolve(&Globals::default()),
        pair("http://one", "t-env")
    );
}

#[test]
fn without_any_server_the_ways_to_one_are_named() {
    let failure = Machine::new().resolve(&Globals::default()).unwrap_err();
    assert_eq!(failure.exit, Exit::Input);
    assert!(failure.message.contains("stoker up") && failure.message.contains("STOKER_SERVER"));
    let machine = Machine::new().with_contexts(Some("gone"));
    let failure = machine.resolve(&Globals::default()).unwrap_err();
    assert_eq!(
        failure.message,
        "there is no context \"gone\"; there are: one, two"
    );
}

#[test]
fn files_with_tokens_are_their_owners_alone_even_when_they_were_not() {
    let machine = Machine::new().with_contexts(None);
    let path = machine.dir.path().join(".config/stoker/contexts.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let machine = machine.with_contexts(Some("one")).with_local();
    let local = machine.dir.path().join(".local/share/stoker/client.toml");
    for path in [&path, &local] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        let siblings = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(siblings, 1, "no part is left");
    }
    assert_eq!(
        fs::read_to_string(&local).unwrap(),
        "server = \"http://local\"\ntoken = \"t-local\"\n"
    );
}

#[test]
fn a_broken_file_is_named_without_showing_its_tokens() {
    let machine = Machine::new().with_contexts(Some("one"));
    let path = machine.dir.path().join(".config/stoker/contexts.toml");
    fs::write(
        &path,
        "version = 1\n[contexts.one]\nserver = 1\ntoken = \"t-secret\"",
    )
    .unwrap();
    let failure = machine.resolve(&Globals::default()).unwrap_err();
    assert!(
        failure.message.contains("contexts.toml can't be read: "),
        "{}",
        failure.message
    );
    assert!(!failure.message.contains("t-secret"), "{}", failure.message);
    fs::write(&path, "version = 9").unwrap();
    let failure = machine.resolve(&Globals::default()).unwrap_err();
    assert!(failure.message.contains("version 9"), "{}", failure.message);
}
