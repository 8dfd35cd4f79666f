// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Migration
import Testing
import Topology
import TopologyFixtures

@testable import vfio_ferry

struct PeerOptionsTests {
  /// A GPU and a virtual function below one switch, and something that is no PCI function.
  private let records: [DeviceRecord]
  private let tree: PCITree

  init() throws {
    let host = try TopologyBench.small().host
    tree = PCIScanner(root: host.root).tree()
    let inventory = Inventory(root: host.root)
    var mediated = try inventory.device(.pci("0000:05:00.0"))
    mediated.name = .mediated("76666572-7279-4d54-8959-000000000001")
    records = [
      try inventory.device(.pci("0000:03:00.0")), try inventory.device(.pci("0000:04:00.1")), mediated,
    ]
  }

  private func reachability(_ arguments: [String]) throws -> Reachability {
    try PeerOptions.parse(arguments).reachability(of: records, tree: tree)
  }

  @Test("without options the tree says who reaches whom, and of what is not in it nothing is known")
  func observed() throws {
    let relation = try reachability([])
    #expect(relation[0, 1].path == .direct(at: "0000:01:00.0"))
    #expect(relation[0, 1].origin == .observed)
    #expect(relation[0, 2].path == .unknown)
    #expect(relation[2, 1].path == .unknown)
  }

  @Test("--no-link takes one direction away, and says whose word that is")
  func noLink() throws {
    let relation = try reachability(["--no-link", "03:00.0,0000:04:00.1"])
    #expect(!relation.reaches(0, 1))
    #expect(relation[0, 1].origin == .declared(by: "the operator"))
    #expect(relation.reaches(1, 0))
  }

  @Test("--no-link all takes away every link but those that --link names")
  func noLinkAll() throws {
    let relation = try reachability(["--no-link", "all", "--link", "04:00.1,76666572-7279-4d54-8959-000000000001"])
    for from in 0..<3 {
      for to in 0..<3 { #expect(relation.reaches(from, to) == (from == 1 && to == 2)) }
    }
  }

  @Test("a link that the tree already has keeps its path when it is declared")
  func linkKeepsPath() throws {
    let relation = try reachability(["--link", "03:00.0,04:00.1"])
    #expect(relation[0, 1].path == .direct(at: "0000:01:00.0"))
    #expect(relation[0, 1].origin == .declared(by: "the operator"))
  }

  @Test(
    "what makes no sense is misuse, in one line that says why",
    arguments: [
      (["--link", "03:00.0"], "two devices"), (["--link", "03:00.0,04:00.1,05:00.0"], "two devices"),
      (["--no-link", ""], "two devices"), (["--link", "03:00.0,nonsense"], "no device name"),
      (["--link", "all"], "two devices"), (["--no-link", "03:00.0,05:00.0"], "not one of the devices given"),
      (["--link", "03:00.0,0000:03:00.0"], "twice"),
      (["--link", "03:00.0,04:00.1", "--no-link", "0000:03:00.0,04:00.1"], "one or the other"),
    ])
  func misuse(arguments: [String], reason: String) {
    #expect {
      try reachability(arguments)
    } throws: { error in
      guard let failure = error as? CommandFailure else { return false }
      return failure.status == .misuse && failure.message.contains(reason) && !failure.message.contains("\n")
    }
  }
}
