//! What every server's owner can do with it.

macro_rules! part {
    ($name:ident) => {
        impl $name {
            /// One server for all tests of this process; it ends with the process.
            ///
            /// # Errors
            /// [`ServerError`](super::ServerError), the same for all, when it didn't come up.
            pub fn shared() -> Result<&'static Self, super::ServerError> {
                static SHARED: std::sync::OnceLock<Result<$name, super::ServerError>> =
                    std::sync::OnceLock::new();
                SHARED
                    .get_or_init(Self::start)
                    .as_ref()
                    .map_err(Clone::clone)
            }

            /// Ends it as a crash would (SIGKILL).
            pub fn kill(&mut self) {
                self.server.kill(&mut self.den);
            }

            /// Stops it from running (SIGSTOP): connections stay, answers don't come.
            pub fn pause(&self) {
                self.server.signal(rustix::process::Signal::STOP);
            }

            /// Lets it run again after [`Self::pause`].
            pub fn resume(&self) {
                self.server.signal(rustix::process::Signal::CONT);
            }
        }
    };
}

pub(super) use part;
