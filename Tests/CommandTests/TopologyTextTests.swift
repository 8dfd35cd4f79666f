// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Testing
import TopologyFixtures

@testable import vfio_ferry

struct TopologyTextTests {
  private static let rdma = """
    RDMA    FUNCTION      FIRMWARE    PORTS              WHAT IT IS
    mlx5_0  0000:04:00.0  28.41.1000  1 active ethernet  a physical function: not migratable when passed through; give the VM a virtual function of it
    """

  @Test("the tree has drivers, groups, links and access control, and says what it leaves out")
  func tree() throws {
    let expected = """
      FUNCTION                                        DRIVER         GROUP  LINK
      pci0000:00  host bridge, NUMA node 0
      ├─ 0000:00:01.0  root port                                     1      32 GT/s x16  ACS sv,rr,cr,uf
      │  └─ 0000:01:00.0  switch, upstream port                      1      32 GT/s x16
      │     ├─ 0000:02:00.0  switch, downstream port                 1      32 GT/s x16  ACS off
      │     │  └─ 0000:03:00.0  GPU, f00d:0004        vfio-pci       1      32 GT/s x16  on VFIO, ATS on
      │     └─ 0000:02:01.0  switch, downstream port                 1      16 GT/s x8   ACS off
      │        └─ 0000:04:00.0  network, f00d:0005    mlx5_core      1      16 GT/s x8   mlx5_0
      │           └─ 0000:04:00.1  VF, f00d:0006      mlx5_vfio_pci  1                   on VFIO
      └─ 0000:00:02.0  root port                                     2      16 GT/s x4   ACS sv,rr,cr,uf
         └─ 0000:05:00.0  NVMe, f00d:0007             nvme           3      16 GT/s x4

      \(Self.rdma)

      2 functions are left out (the chipset's own, and ports with nothing below): --all shows them.

      """
    #expect(try TopologyBench.small().output([]) == expected)
  }

  @Test("--all leaves nothing out")
  func all() throws {
    let output = try TopologyBench.small().output(["--all"])
    #expect(output.contains("├─ 0000:00:00.0  f00d:0001"))
    #expect(output.contains("└─ 0000:00:03.0  root port"))
    #expect(!output.contains("left out"))
  }

  @Test("what was named is never left out")
  func named() throws {
    #expect(try TopologyBench.small().output(["00:00.0"]).contains("├─ 0000:00:00.0*  f00d:0001"))
  }

  @Test("for each ordered pair of named devices there is the way, where they meet, and why")
  func pairs() throws {
    let expected = """
      CAN START TRANSFERS  TO            PATH                    THEY MEET AT  WHY
      0000:04:00.1         0000:03:00.0  direct at 0000:01:00.0  0000:01:00.0  0000:02:01.0 has request redirect off, so the switch routes by address, past any IOMMU
      0000:03:00.0         0000:04:00.1  not at all              0000:01:00.0  the operator says that it never does

      A consistent stop rests on these: 5 of 5 were found to hold.

      * is a device that was named.

      """
    let output = try TopologyBench.small().output(["04:00.1", "03:00.0", "--no-link", "03:00.0,04:00.1"])
    let pairs = output.components(separatedBy: "\n\n").drop { !$0.hasPrefix("CAN START") }.joined(separator: "\n\n")
    #expect(pairs.hasPrefix(expected))
  }

  @Test("what a consistent stop rests on and does not hold is said, with the remedy")
  func doubtful() throws {
    let output = try TopologyBench(FixtureHost(.hgx)).output(["14:00.1", "24:00.1"])
    #expect(output.contains("A consistent stop rests on these: 5 of 6 were found to hold."))
    #expect(output.contains("0000:24:00.1  no ID-based ordering  does NOT hold"))
    #expect(output.contains("setpci -s 0000:24:00.0"))
  }

  @Test("many virtual functions are one line, but for those that were named or are on VFIO")
  func folded() throws {
    let expected = """
      └─ 0000:00:01.0  root port                                        1      32 GT/s x16  ACS off
         └─ 0000:01:00.0  network, f00d:0005             mlx5_core      2      32 GT/s x16
            ├─ 0000:01:00.3  VF, f00d:0006               mlx5_vfio_pci  5                   on VFIO
            ├─ 0000:01:01.0*  VF, f00d:0006              mlx5_core      10
            └─ 18 more VFs: 0000:01:00.1 … 0000:01:02.4
      """
    #expect(try TopologyBench.many(20).output(["01:01.0"]).contains(expected))
    #expect(try TopologyBench.many(20).output(["--all"]).contains("└─ 0000:01:02.4  VF"))
    #expect(try !TopologyBench.many(4).output([]).contains("VFs:"))
  }

  @Test("without root the capabilities are missing, and that is said")
  func withoutRoot() throws {
    let output = try TopologyBench(FixtureHost(.server, configBytes: 64)).output([])
    #expect(!output.contains("ACS off"))
    #expect(output.contains("run as root"))
  }

  @Test("a device that is not there is status 4, one named twice is misuse, and so is what is no name")
  func noSuchDevice() throws {
    let bench = try TopologyBench.small()
    #expect(try bench.failure(["3b:00.0"]).failure?.status == .nothing)
    #expect(try bench.failure(["76666572-7279-4d54-8959-000000000001"]).failure?.status == .nothing)
    #expect(try bench.failure(["03:00.0", "0000:03:00.0"]).failure?.status == .misuse)
    #expect(try bench.failure(["nonsense"]).failure?.status == .misuse)
  }

  @Test("--root looks at a copy of another system, and says where there is none")
  func root() throws {
    let host = try FixtureHost(.laptop)
    let collector = Collector()
    try TopologyCommand.parse(["--root", host.folder.path + "/"]).execute(collector.console)
    #expect(collector.out.contains("iwlwifi"))
    #expect(collector.out.contains("No IOMMU is on"))
    #expect {
      try TopologyCommand.parse(["--root", "/nonexistent"]).execute(collector.console)
    } throws: { error in
      (error as? CommandFailure)?.status == .nothing
    }
  }

  @Test(
    "options that contradict each other are misuse",
    arguments: [
      ["--dot", "--svg"], ["--dot", "-j"], ["--svg", "--plan", "03:00.0"], ["-o", "x"], ["--plan"],
      ["03:00.0", "--assume", "03:00.0=stop-copy"], ["03:00.0", "--pid", "1"], ["--group"], ["--flush", "03:00.0"],
      ["03:00.0", "--plan", "--pid", "1", "--root", "/x"], ["03:00.0", "04:00.0", "--plan", "--fd", "3"],
    ])
  func misuse(arguments: [String]) {
    #expect(throws: (any Error).self) { try TopologyCommand.parse(arguments) }
  }

  @Test("what a copied /sys has in the place of names can't reach the terminal, nor break a line")
  func harmless() throws {
    let bench = try TopologyBench.small()
    let home = bench.host.path(of: "0000:05:00.0")
    let folder = bench.host.folder.path
    try FileManager.default.removeItem(atPath: "\(folder)/\(home)/driver")
    try bench.host.link("\(home)/driver", to: "sys/bus/pci/drivers/n\u{1b}[31m\nvme\u{202e}")
    try bench.host.write("\(home)/current_link_speed", "\u{1b}]0;title\u{7}16.0 GT/s")
    try bench.host.write("\(bench.host.path(of: "0000:04:00.0"))/infiniband/mlx5_0/fw_ver", "1\r2\u{9b}3")
    try bench.host.link("sys/class/infiniband/a\nb", to: "\(bench.host.path(of: "0000:04:00.0"))/infiniband/mlx5_0")
    for options in [[], ["--dot"], ["--svg"], ["--json"]] {
      let output = try bench.output(options + ["05:00.0", "04:00.1"])
      let bad = output.unicodeScalars.filter { scalar in
        scalar != "\n" && [.control, .format].contains(scalar.properties.generalCategory)
      }
      #expect(bad.isEmpty, "\(options)")
      #expect(options == ["--svg"] || output.contains("n\u{fffd}[31m\u{fffd}vme\u{fffd}"), "\(options)")
    }
    #expect(try bench.output([]).contains("a\u{fffd}b"))
  }

  @Test("an empty --root, as an unset variable of a shell gives, is misuse and not this system")
  func emptyRoot() throws {
    #expect {
      try TopologyCommand.parse(["--root", ""])
    } throws: { error in
      TopologyCommand.exitCode(for: error) == .validationFailure
    }
    #expect(throws: Never.self) { try TopologyCommand.parse(["--root", "/tmp"]) }
  }
}
