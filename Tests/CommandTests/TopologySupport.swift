// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Testing
import Topology
import TopologyFixtures

@testable import vfio_ferry

/// A small described host, and what `topology` prints of it.
struct TopologyBench {
  let host: FixtureHost

  init(_ host: FixtureHost) { self.host = host }

  /// A switch with a GPU and a NIC below it, and an NVMe drive elsewhere. Nobody's PCI id list has these ids, so what is
  /// printed is the same on every machine.
  static func small() throws -> TopologyBench {
    TopologyBench(
      try FixtureHost(
        text: """
          iommu on
          host pci0000:00 node=0
            00:00.0 integrated id=f00d:0001 class=0x060000
            00:01.0 root-port id=f00d:0002 acs=sv,rr,cr,uf link=32.0x16 group=1
              01:00.0 upstream id=f00d:0003 class=0x060400 link=32.0x16 group=1
                02:00.0 downstream id=f00d:0003 acs=off link=32.0x16 group=1
                  03:00.0 endpoint id=f00d:0004 class=0x030200 driver=vfio-pci bars=0:16Mp ats=on link=32.0x16 group=1
                02:01.0 downstream id=f00d:0003 acs=off link=16.0x8 group=1
                  04:00.0 endpoint id=f00d:0005 class=0x020000 driver=mlx5_core bars=0:32Mp sriov link=16.0x8 group=1
                  04:00.1 endpoint id=f00d:0006 class=0x020000 driver=mlx5_vfio_pci bars=0:2Mp vf-of=04:00.0 vfio=0 group=1
            00:02.0 root-port id=f00d:0002 acs=sv,rr,cr,uf link=16.0x4 group=2
              05:00.0 endpoint id=f00d:0007 class=0x010802 driver=nvme bars=0:16K link=16.0x4 group=3
            00:03.0 root-port id=f00d:0002 acs=sv,rr,cr,uf group=4
          rdma mlx5_0 at=04:00.0 firmware=28.41.1000 port1=active,ethernet
          """))
  }

  /// A physical function with so many virtual functions, one of them on VFIO.
  static func many(_ count: Int) throws -> TopologyBench {
    var lines = [
      "iommu on", "host pci0000:00 node=0", "  00:01.0 root-port id=f00d:0002 acs=off link=32.0x16 group=1",
      "    01:00.0 endpoint id=f00d:0005 class=0x020000 driver=mlx5_core sriov link=32.0x16 group=2",
    ]
    for index in 1...count {
      let address = "01:0\(index / 8).\(index % 8)"
      let driver = index == 3 ? "driver=mlx5_vfio_pci vfio=0" : "driver=mlx5_core"
      lines.append(
        "    \(address) endpoint id=f00d:0006 class=0x020000 \(driver) vf-of=01:00.0 group=\(2 + index)")
    }
    return TopologyBench(try FixtureHost(text: lines.joined(separator: "\n")))
  }

  /// What the command prints for these arguments.
  func output(_ arguments: [String]) throws -> String {
    let collector = Collector()
    try TopologyCommand.parse(arguments).execute(collector.console, system: host.root)
    return collector.out
  }

  /// What it prints, and how it fails.
  func failure(_ arguments: [String]) throws -> (out: String, failure: CommandFailure?) {
    let collector = Collector()
    do {
      try TopologyCommand.parse(arguments).execute(collector.console, system: host.root)
      return (collector.out, nil)
    } catch let failure as CommandFailure {
      return (collector.out, failure)
    }
  }
}
