//! Which addresses may be connected to: those of the public internet, and what the operator permits.
//! A name is resolved here, and connected to at the addresses that were checked, so that a second
//! answer of the name server can't lead elsewhere.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

const fn v4(a: u8, b: u8, c: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), length)
}

/// What of IPv4 isn't the public internet (IANA's registry of special-purpose addresses).
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    // Metadata of most clouds are here.
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 88, 99, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    v4(224, 0, 0, 4),
    v4(240, 0, 0, 4),
    // Azure's metadata, at an address that looks public.
    Ipv4Net::new_assert(Ipv4Addr::new(168, 63, 129, 16), 32),
];

const fn v6(a: u16, b: u16, c: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

/// The one part of IPv6 that is given to the public internet.
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 0, 3);
/// What of it isn't: protocol assignments with Teredo, documentation twice.
const SPECIAL_V6: [Ipv6Net; 3] = [
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0xdb8, 0, 32),
    v6(0x3fff, 0, 0, 20),
];
/// IPv4 behind NAT64.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);
/// IPv4 behind 6to4.
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 0, 16);

/// Whether an address belongs to the public internet, whatever form it is hidden in.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !SPECIAL_V4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let hidden = |at: usize| {
                let [a, b, c, d] = [0, 1, 2, 3].map(|n| octets[at + n]);
                is_public(Ipv4Addr::new(a, b, c, d).into())
            };
            if NAT64.contains(&ip) {
                return hidden(12);
            }
            if SIX_TO_FOUR.contains(&ip) {
                return hidden(2);
            }
            PUBLIC_V6.contains(&ip) && !SPECIAL_V6.iter().any(|net| net.contains(&ip))
        }
    }
}

/// What is said of what may not be connected to.
pub(crate) const NOT_PUBLIC: &str = "isn't on the public internet";

/// A name or address that may not be connected to. Which address it was is for the log alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} {NOT_PUBLIC}")]
pub(crate) struct NotPublic(pub(super) String);

/// The addresses that may be connected to.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// What the operator permits beside the public internet.
    permitted: Vec<IpNet>,
    /// Whether nothing else is permitted.
    only: bool,
}

impl Addresses {
    pub(crate) const fn new(permitted: Vec<IpNet>) -> Self {
        Self {
            permitted,
            only: false,
        }
    }

    /// These networks, and not the public internet.
    pub(crate) const fn only(permitted: Vec<IpNet>) -> Self {
        Self {
            permitted,
            only: true,
        }
    }

    /// Refuses an address of `host` that may not be connected to.
    pub(crate) fn check(&self, host: &str, ip: IpAddr) -> Result<(), NotPublic> {
        let canonical = ip.to_canonical();
        if (is_public(ip) && !self.only)
            || self.permitted.iter().any(|net| net.contains(&canonical))
        {
            return Ok(());
        }
        tracing::warn!(host, address = %ip, "an address may not be connected to");
        let host = match self.only {
            true => format!("plain http is for networks that the operator permits, and {host}"),
            false => host.to_owned(),
        };
        Err(NotPublic(host))
    }
}

/// Finds the addresses of a name.
pub(crate) type Lookup =
    Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The system's resolver.
pub(crate) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
    })
}

/// Resolves names to addresses that were checked, all of them: one that may not be connected to
/// spoils the name.
pub(crate) struct CheckedResolver {
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) lookup: Lookup,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (addresses, lookup) = (Arc::clone(&self.addresses), Arc::clone(&self.lookup));
        Box::pin(async move {
            let found = lookup(name.as_str().to_owned()).await?;
            for address in &found {
                addresses.check(name.as_str(), address.ip())?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.19.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2600::1",
            "2a00:1450:4001::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn the_operator_may_permit_more() {
        let addresses = Addresses::new(vec!["10.1.0.0/16".parse().unwrap()]);
        let check = |ip: &str| addresses.check("h", ip.parse().unwrap()).is_ok();
        assert!(check("10.1.2.3") && check("::ffff:10.1.2.3") && check("8.8.8.8"));
        assert!(!check("10.2.2.3") && !check("127.0.0.1"));
    }
}
