//! Which addresses this server connects to on behalf of strangers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Decides which addresses this server may connect to when a stranger chose the host.
///
/// Admits public addresses only: no loopback, private, link-local, carrier-grade NAT, documentation, multicast or other
/// special-purpose address (the IANA registries of RFC 6890), and no IPv6 address that contains one.
///
/// [`MetadataDocumentRegistry`](crate::MetadataDocumentRegistry) applies it to every fetch. Apply it to your own when you
/// fetch an address from client metadata, such as `logo_uri`: check a literal address before you connect, check every
/// address that a name resolves to, and connect to the addresses that you checked. A second lookup may answer
/// differently. Do not follow redirects, and use no proxy.
///
/// ```
/// use std::io;
/// use std::sync::Arc;
/// use reqwest::dns::{Addrs, Name, Resolve, Resolving};
/// use tower_oauth_client_validation::AddressFilter;
///
/// struct PublicAddresses(AddressFilter);
///
/// impl Resolve for PublicAddresses {
///     fn resolve(&self, name: Name) -> Resolving {
///         let filter = self.0;
///         Box::pin(async move {
///             let addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
///             if addresses.iter().all(|address| filter.admits(address.ip())) {
///                 Ok(Box::new(addresses.into_iter()) as Addrs)
///             } else {
///                 Err(io::Error::other("the host has an address that is not public").into())
///             }
///         })
///     }
/// }
///
/// async fn logo(address: reqwest::Url) -> Result<reqwest::Response, Box<dyn std::error::Error>> {
///     let filter = AddressFilter::new();
///     // Literal addresses are not resolved.
///     if !filter.admits_host_of(&address) {
///         return Err("the address is not public".into());
///     }
///     let http = reqwest::Client::builder()
///         .dns_resolver(Arc::new(PublicAddresses(filter)))
///         .redirect(reqwest::redirect::Policy::none())
///         .no_proxy()
///         .build()?;
///     Ok(http.get(address).send().await?)
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct AddressFilter {
    allow_loopback: bool,
}

impl AddressFilter {
    /// Admits public addresses only.
    ///
    /// ```
    /// use tower_oauth_client_validation::AddressFilter;
    ///
    /// let filter = AddressFilter::new();
    /// assert!(filter.admits([93, 184, 216, 34].into()));
    /// assert!(!filter.admits([127, 0, 0, 1].into()));
    /// assert!(filter.insecure_allow_loopback(true).admits([127, 0, 0, 1].into()));
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// For development: admits loopback addresses too (default: no).
    pub fn insecure_allow_loopback(mut self, allow: bool) -> Self {
        self.allow_loopback = allow;
        self
    }

    /// Whether this server may connect to `address`.
    #[must_use]
    pub fn admits(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || (self.allow_loopback && address.is_loopback())
    }

    /// Whether the host of `url` is a name, or a literal address that this server may connect to. The addresses of a
    /// name need their own check.
    #[must_use]
    pub fn admits_host_of(self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Domain(_)) => true,
            Some(Host::Ipv4(address)) => self.admits(address.into()),
            Some(Host::Ipv6(address)) => self.admits(address.into()),
            None => false,
        }
    }

    pub(crate) fn allows_loopback(self) -> bool {
        self.allow_loopback
    }
}

/// The network that an address belongs to: what one operator controls, at least. IPv4 /24, IPv6 /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Network {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl Network {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            // Behind NAT64 all of IPv4 is one /48.
            IpAddr::V6(address) => {
                if let Some(address) = behind_nat64(address) {
                    return Self::of(address.into());
                }
                let [a, b, c, d, e, f, ..] = address.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

/// The IANA registry of special-purpose IPv4 addresses (RFC 6890), without the globally reachable ones.
const SPECIAL_IPV4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Special-purpose blocks within global unicast: protocol assignments (with Teredo), documentation, 6to4.
const SPECIAL_IPV6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// NAT64 (RFC 6052 §2.1): as public as the IPv4 address in its last four bytes.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_IPV4.iter().any(|block| contains_v4(*block, address)),
        IpAddr::V6(address) => match behind_nat64(address) {
            Some(address) => is_public(address.into()),
            None => {
                contains_v6(GLOBAL_UNICAST, address) && !SPECIAL_IPV6.iter().any(|block| contains_v6(*block, address))
            }
        },
    }
}

fn behind_nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    contains_v6(NAT64, address).then(|| Ipv4Addr::new(a, b, c, d))
}

fn contains_v4((network, length): (Ipv4Addr, u32), address: Ipv4Addr) -> bool {
    (network.to_bits() ^ address.to_bits()) >> (32 - length) == 0
}

fn contains_v6((network, length): (Ipv6Addr, u32), address: Ipv6Addr) -> bool {
    (network.to_bits() ^ address.to_bits()) >> (128 - length) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_pass() {
        let filter = AddressFilter::new();
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:7f00:1::",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!filter.admits(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(filter.admits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn the_insecure_switch_admits_loopback_and_nothing_else() {
        let filter = AddressFilter::new().insecure_allow_loopback(true);
        for address in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "8.8.8.8"] {
            assert!(filter.admits(address.parse().unwrap()), "{address}");
        }
        for address in ["0.0.0.0", "10.0.0.1", "169.254.169.254", "::", "::127.0.0.1", "64:ff9b::127.0.0.1", "fe80::1"]
        {
            assert!(!filter.admits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn networks_are_24_bits_of_ipv4_and_48_of_ipv6() {
        let network = |address: &str| Network::of(address.parse().unwrap());
        assert_eq!(network("192.0.2.1"), network("192.0.2.254"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.9"));
        assert_eq!(network("64:ff9b::192.0.2.1"), network("192.0.2.9"));
        assert_eq!(network("2606:4700:1:2::1"), network("2606:4700:1:ffff::1"));
        assert_ne!(network("2606:4700:1::1"), network("2606:4700:2::1"));
    }
}
