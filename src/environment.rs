//! The process's environment, read once, so that everything else is a function of its arguments.
//! (Settings of the server roles, `STOKER__*`, are read by [`crate::config`].)
#![expect(
    clippy::disallowed_methods,
    reason = "the one home of environment variables that clients need"
)]

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use secrecy::SecretString;

/// What the client needs to know of its surroundings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub(crate) xdg_config_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub(crate) xdg_data_home: Option<PathBuf>,
    /// `STOKER_SERVER`.
    pub(crate) server: Option<String>,
    /// `STOKER_TOKEN`.
    pub(crate) token: Option<SecretString>,
    /// `STOKER_DATA_DIR`.
    pub(crate) data_dir: Option<PathBuf>,
    /// Whether `NO_COLOR` is set to anything but nothing (no-color.org).
    pub(crate) no_color: bool,
    /// Whether messages and progress go to a terminal.
    pub(crate) stderr_is_terminal: bool,
}

impl Environment {
    /// The environment of this process. A variable that is empty counts as not set.
    pub(crate) fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // The XDG specification has relative paths ignored.
        let dir = |name: &str| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        Self {
            home: dir("HOME"),
            xdg_config_home: dir("XDG_CONFIG_HOME"),
            xdg_data_home: dir("XDG_DATA_HOME"),
            server: text("STOKER_SERVER"),
            token: text("STOKER_TOKEN").map(SecretString::from),
            data_dir: std::env::var_os("STOKER_DATA_DIR")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from),
            no_color: text("NO_COLOR").is_some(),
            stderr_is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Where `stoker up` keeps its state when nobody says otherwise.
    ///
    /// # Errors
    /// When no variable says where that could be.
    pub(crate) fn data_dir(&self) -> io::Result<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".local/share"));
        let share = || self.xdg_data_home.clone().or_else(home);
        let found = || share().map(|share| share.join("stoker"));
        self.data_dir.clone().or_else(found).ok_or_else(|| {
            unset(
                "the data dir",
                "--data-dir, STOKER_DATA_DIR, XDG_DATA_HOME or HOME",
            )
        })
    }

    /// Where the client keeps its contexts.
    ///
    /// # Errors
    /// When no variable says where that could be.
    pub(crate) fn config_dir(&self) -> io::Result<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".config"));
        let config = self.xdg_config_home.clone().or_else(home);
        config
            .map(|config| config.join("stoker"))
            .ok_or_else(|| unset("the settings' place", "XDG_CONFIG_HOME or HOME"))
    }
}

/// A secret that the settings say is in that variable.
pub(crate) fn secret(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn unset(what: &str, by: &str) -> io::Error {
    let told = format!("{what} isn't known: set one of {by}");
    io::Error::new(io::ErrorKind::NotFound, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_from_the_nearest_variable_that_is_set() {
        let mut environment = Environment::default();
        assert!(
            environment
                .data_dir()
                .unwrap_err()
                .to_string()
                .contains("--data-dir")
        );
        assert!(environment.config_dir().is_err());
        environment.home = Some("/home/ada".into());
        let dirs = |e: &Environment| (e.data_dir().unwrap(), e.config_dir().unwrap());
        let expected = ("/home/ada/.local/share/stoker", "/home/ada/.config/stoker");
        assert_eq!(dirs(&environment), (expected.0.into(), expected.1.into()));
        environment.xdg_data_home = Some("/data".into());
        environment.xdg_config_home = Some("/etc/ada".into());
        assert_eq!(
            dirs(&environment),
            ("/data/stoker".into(), "/etc/ada/stoker".into())
        );
        environment.data_dir = Some("here".into());
        assert_eq!(environment.data_dir().unwrap(), PathBuf::from("here"));
    }
}
