// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing
import Topology
import TopologyFixtures

/// Every pair of the described hosts against tables that were worked out by hand from the descriptions.
struct ReachabilityTests {
  /// Below 11:00.0 nothing redirects. Below 21:00.0 everything does; the ports of 23 and 24 except translated requests,
  /// and 24's functions redirect to each other. Below 81:00.0 only 84's port redirects. 94:00.0 redirects, but 92:00.0
  /// above it does not forward upstream; 92:01.0 redirects.
  static let hgx = PeerTable(
    """
    13:00.0 -    S11  S11  S11  S11  R1   R1   R1   R1   H18  H18  H18  H18  H18  H18
    14:00.0 S11  -    I14  I14  S11  R1   R1   R1   R1   H18  H18  H18  H18  H18  H18
    14:00.1 S11  I14  -    I14  S11  R1   R1   R1   R1   H18  H18  H18  H18  H18  H18
    14:00.2 S11  I14  I14  -    S11  R1   R1   R1   R1   H18  H18  H18  H18  H18  H18
    15:00.0 S11  S11  S11  S11  -    R1   R1   R1   R1   H18  H18  H18  H18  H18  H18
    23:00.0 R1   R1   R1   R1   R1   -    T21  T21  T21  H18  H18  H18  H18  H18  H18
    24:00.0 R1   R1   R1   R1   R1   T21  -    U240 T21  H18  H18  H18  H18  H18  H18
    24:00.1 R1   R1   R1   R1   R1   T21  U241 -    T21  H18  H18  H18  H18  H18  H18
    25:00.0 R1   R1   R1   R1   R1   U222 U222 U222 -    H18  H18  H18  H18  H18  H18
    83:00.0 H81  H81  H81  H81  H81  H81  H81  H81  H81  -    S81  S81  R8   R8   R8
    84:00.0 H81  H81  H81  H81  H81  H81  H81  H81  H81  U821 -    I84  R8   R8   R8
    84:00.1 H81  H81  H81  H81  H81  H81  H81  H81  H81  U821 I84  -    R8   R8   R8
    95:00.0 H81  H81  H81  H81  H81  H81  H81  H81  H81  R8   R8   R8   -    B940 S91
    96:00.0 H81  H81  H81  H81  H81  H81  H81  H81  H81  R8   R8   R8   S93  -    S91
    97:00.0 H81  H81  H81  H81  H81  H81  H81  H81  H81  R8   R8   R8   U921 U921 -
    """)

  static let hgxMeanings: [String: PeerTable.Meaning] = [
    "S11": PeerTable.inSwitch("11:00.0"), "S81": PeerTable.inSwitch("81:00.0"), "S91": PeerTable.inSwitch("91:00.0"),
    "S93": PeerTable.inSwitch("93:00.0"), "T21": PeerTable.translated("21:00.0"),
    "I14": PeerTable.inside("14:00.0"), "I84": PeerTable.inside("84:00.0"),
    "U240": PeerTable.redirected("pci0000:10", by: "24:00.0"),
    "U241": PeerTable.redirected("pci0000:10", by: "24:00.1"),
    "U222": PeerTable.redirected("pci0000:10", by: "22:02.0"),
    "U821": PeerTable.redirected("pci0000:80", by: "82:01.0"),
    "U921": PeerTable.redirected("pci0000:80", by: "92:01.0"),
    "B940": (.redirected(through: "pci0000:80"), "0000:92:00.0 above it, with upstream forwarding off"),
    "R1": PeerTable.acrossRoots("pci0000:10"), "R8": PeerTable.acrossRoots("pci0000:80"),
    "H18": PeerTable.acrossHosts("pci0000:10", "pci0000:80"), "H81": PeerTable.acrossHosts("pci0000:80", "pci0000:10"),
  ]

  @Test("HGX: every pair's path and reason are those of the table")
  func hgx() throws {
    let tree = try FixtureHost(.hgx).tree
    try Self.hgx.check(tree.reachability(of: Self.hgx.devices), Self.hgxMeanings)
    try Self.hgx.check(tree.reachability(of: Self.hgx.devices) { _, _ in .mapped }, Self.hgxMeanings)
  }

  @Test(
    "HGX: where no BAR is mapped, what the IOMMU sees arrives nowhere, and what switches route arrives all the same")
  func hgxNotMapped() throws {
    let relation = try FixtureHost(.hgx).tree.reachability(of: Self.hgx.devices) { _, _ in .notMapped }
    let meanings = Self.hgxMeanings.mapValues { meaning -> PeerTable.Meaning in
      if case .direct = meaning.path, meaning.reason != "translated" { return (meaning.path, "by chance") }
      return (.none, "the IOMMU, which has no mapping")
    }
    try Self.hgx.check(relation, meanings)
  }

  @Test("the server: every pair's path and reason are those of the table")
  func server() throws {
    let table = PeerTable(
      """
      00:00.0 -    N    R0   H01  H01  H01  H01  H01  H09
      00:1f.0 N    -    I1f  H01  H01  H01  H01  H01  H09
      00:1f.4 N    N    -    H01  H01  H01  H01  H01  H09
      16:00.0 N    N    H10  -    I160 I160 I160 R1   H19
      16:00.1 N    N    H10  I160 -    I160 I161 R1   H19
      16:00.2 N    N    H10  I160 I160 -    I160 R1   H19
      16:00.3 N    N    H10  I160 I161 I160 -    R1   H19
      17:00.0 N    N    H10  R1   R1   R1   R1   -    H19
      98:00.0 N    N    H90  H91  H91  H91  H91  H91  -
      """)
    let (zero, one, nine) = ("pci0000:00", "pci0000:15", "pci0000:97")
    try table.check(
      FixtureHost(.server).tree.reachability(of: table.devices),
      [
        "N": PeerTable.none, "R0": PeerTable.acrossRoots(zero), "R1": PeerTable.acrossRoots(one),
        "I1f": PeerTable.inside("00:1f.0"), "I160": PeerTable.inside("16:00.0"), "I161": PeerTable.inside("16:00.1"),
        "H01": PeerTable.acrossHosts(zero, one), "H10": PeerTable.acrossHosts(one, zero),
        "H09": PeerTable.acrossHosts(zero, nine), "H90": PeerTable.acrossHosts(nine, zero),
        "H19": PeerTable.acrossHosts(one, nine), "H91": PeerTable.acrossHosts(nine, one),
      ])
  }

  static let laptop = PeerTable(
    """
    00:00.0 -    R    R    R    R    R    R    N    R
    00:02.0 N    -    R    R    R    R    R    N    R
    00:14.0 N    R    -    I    R    R    R    N    R
    00:14.2 N    R    I    -    R    R    R    N    R
    01:00.0 N    R    R    R    -    R    R    N    R
    03:00.0 N    R    R    R    R    -    C    N    R
    03:01.0 N    R    R    R    R    C    -    N    R
    03:02.0 N    R    R    R    R    C    C    -    R
    04:00.0 N    R    R    R    R    R    R    N    -
    """)

  @Test(
    "the laptop: every pair's path and reason are those of the table, mapped or not, as it has no IOMMU",
    arguments: [BARMapping.unknown, .mapped, .notMapped])
  func laptop(mapping: BARMapping) throws {
    try Self.laptop.check(
      FixtureHost(.laptop).tree.reachability(of: Self.laptop.devices) { _, _ in mapping },
      [
        "N": PeerTable.none, "R": PeerTable.acrossRoots("pci0000:00"), "I": PeerTable.inside("00:14.0"),
        "C": PeerTable.onBus("02:00.0"),
      ])
  }

  @Test("the multi-host NIC: every pair's path and reason are those of the table")
  func multihost() throws {
    let table = PeerTable(
      """
      21:00.0      -    I21  I21  R2   H2a  H2a  H21
      21:00.1      I21  -    I21  R2   H2a  H2a  H21
      22:00.0      I21  I21  -    R2   H2a  H2a  H21
      23:00.0      R2   R2   R2   -    H2a  H2a  H21
      a1:00.0      Ha2  Ha2  Ha2  Ha2  -    Ia1  Ha1
      a1:00.1      Ha2  Ha2  Ha2  Ha2  Ia1  -    Ha1
      0001:01:00.0 H12  H12  H12  H12  H1a  H1a  -
      """)
    let (two, ten, segment) = ("pci0000:20", "pci0000:a0", "pci0001:00")
    try table.check(
      FixtureHost(.multihost).tree.reachability(of: table.devices),
      [
        "R2": PeerTable.acrossRoots(two), "I21": PeerTable.inside("21:00.0"), "Ia1": PeerTable.inside("a1:00.0"),
        "H2a": PeerTable.acrossHosts(two, ten), "Ha2": PeerTable.acrossHosts(ten, two),
        "H21": PeerTable.acrossHosts(two, segment), "H12": PeerTable.acrossHosts(segment, two),
        "Ha1": PeerTable.acrossHosts(ten, segment), "H1a": PeerTable.acrossHosts(segment, ten),
      ])
  }
}
