//! Addresses that may be connected to: public ones, and nothing that leads into a private network.

use std::fmt;
use std::future::ready;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::flights;

/// Looks the addresses of a host up.
pub(super) type Resolver = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// Which addresses may be connected to.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressFilter {
    pub(super) allow_loopback: bool,
}

impl AddressFilter {
    pub(super) fn admits(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || (self.allow_loopback && address.is_loopback())
    }
}

/// The connection goes to an address that this answers with: one lookup for judging and connecting, so that
/// there is no second one with another answer.
pub(super) struct FilteringResolver {
    pub(super) resolver: Arc<Resolver>,
    pub(super) filter: AddressFilter,
}

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Some(place) = flights::place() else {
            return Box::pin(ready(Err(io::Error::other("a lookup outside of a fetch").into())));
        };
        let addresses = (self.resolver)(name.as_str().to_owned());
        // `getaddrinfo` goes on in its thread when nobody waits any more. So its end gives the place back: slow
        // name servers must not pile threads up.
        let lookup = tokio::spawn(async move {
            let _place = place;
            addresses.await
        });
        let filter = self.filter;
        Box::pin(async move {
            let addresses = lookup.await??;
            // One forbidden address is enough: no honest host has both kinds.
            if !addresses.iter().all(|address| filter.admits(*address)) {
                return Err(ForbiddenAddress.into());
            }
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address").into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

/// A host resolves to an address that must not be connected to.
#[derive(Debug)]
pub(super) struct ForbiddenAddress;

impl fmt::Display for ForbiddenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host has an address that is not public")
    }
}

impl std::error::Error for ForbiddenAddress {}

/// The IANA registries of special-purpose addresses (RFC 6890), less those that are reachable for all.
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

/// Within the global unicast addresses: protocol assignments (Teredo among them), documentation, 6to4.
const SPECIAL_IPV6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// IPv4 behind NAT64 (RFC 6052 §2.1): as public as the IPv4 address inside.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_IPV4.iter().any(|block| contains_v4(*block, address)),
        IpAddr::V6(address) if contains_v6(NAT64, address) => {
            let [.., a, b, c, d] = address.octets();
            is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        IpAddr::V6(address) => {
            contains_v6(GLOBAL_UNICAST, address) && !SPECIAL_IPV6.iter().any(|block| contains_v6(*block, address))
        }
    }
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
        let filter = AddressFilter { allow_loopback: false };
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
    fn the_switch_lets_loopback_through_and_nothing_else() {
        let filter = AddressFilter { allow_loopback: true };
        for address in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "8.8.8.8"] {
            assert!(filter.admits(address.parse().unwrap()), "{address}");
        }
        for address in ["0.0.0.0", "10.0.0.1", "169.254.169.254", "::", "::127.0.0.1", "64:ff9b::127.0.0.1", "fe80::1"]
        {
            assert!(!filter.admits(address.parse().unwrap()), "{address}");
        }
    }
}
