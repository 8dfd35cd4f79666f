// SPDX-License-Identifier: Apache-2.0
import Foundation
import Topology
import TopologyFixtures

extension FuzzTarget {
  /// Configuration spaces as sysfs shows them: all functions are found, whatever is in the registers of one.
  static let registers = FuzzTarget("registers") { bytes in
    var input = FuzzInput(bytes)
    let host = try unsafe RegistersHost.shared.get()
    let address = input.one(of: ["0000:01:00.0", "0000:00:01.0"])
    let how = input.byte()
    let plain = RegistersHost.plain[address]!
    try host.setConfiguration(of: address) { space in
      if how & 3 == 1 { space = Array(space.prefix(Int(input.number(UInt16.self)))) }
      if how & 3 == 2 { space = input.rest() }
      while !input.isEmpty, !space.isEmpty {
        let place = Int(input.number(UInt16.self)) % min(space.count, how & 4 == 0 ? 0x200 : 4096)
        space[place] = input.byte()
      }
    }
    let count = host.tree.functions.count
    try host.setConfiguration(of: address) { $0 = plain }
    try demand(count == 3, "\(count) functions of 3 are found")
  }
}

/// One host for all inputs: its folder takes longer to make than to scan. It goes when the process ends.
private enum RegistersHost {
  nonisolated(unsafe) static let shared: Result<FixtureHost, any Error> = Result {
    atexit { RegistersHost.remove() }
    return try FixtureHost(
      text: """
        iommu on
        host pci0000:00
          00:01.0 root-port acs=sv,rr,cr,uf
            01:00.0 endpoint bars=0:1M acs=rr ats=on sriov relaxed ido-requests
            01:00.1 endpoint bars=0:1M acs=rr ats=on vf-of=01:00.0
        """)
  }

  private static func remove() {
    if let host = try? unsafe shared.get() { try? FileManager.default.removeItem(at: host.folder) }
  }

  /// What is in the registers at first.
  static let plain: [String: [UInt8]] = {
    var all: [String: [UInt8]] = [:]
    for address in ["0000:01:00.0", "0000:00:01.0"] {
      try? unsafe shared.get().setConfiguration(of: address) { all[address] = $0 }
    }
    return all
  }()
}
