// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Testing

extension LabTests {
  /// The doctor on a real kernel, which has all that its emulated devices need: what is broken here is broken for real.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct DoctorTests {
    @Test(
      "of this kernel nothing is wrong but that its configuration is nowhere, and no iommufd tracks mdevs; none notices"
    )
    func good() throws {
      let device = try Synthetic("examined", ["iommu": "own"])
      defer { device.remove() }
      let found = try Examined([])
      #expect(found.wrong == ["kernel-configuration unknown", "dirty-tracking warning"], "\(found)")
      #expect(found.status == 5 && found.state("dirty-tracking", device.node) == nil)
      for mtty in Lab.mtty { #expect(found.state("dirty-tracking", mtty) == "warning") }
      #expect(Set(found.devices).isSuperset(of: Lab.mtty + [device.node]))
      for condition in ["driver", "node", "node-access", "migration"] {
        #expect(found.state(condition, Lab.mtty[0]) == "ok" && found.state(condition, device.node) == "ok")
      }
      #expect(try device.referee["resets"] == 1 && device.referee["arcs"] == 0, "looking has bound it")
    }

    @Test("it agrees with debugfs on whether a device can be migrated")
    func migratable() throws {
      let device = try Synthetic("fixed", ["migration": "none"])
      defer { device.remove() }
      #expect(!Files.exists("/sys/kernel/debug/vfio/\(device.name)/migration"))
      let found = try Examined([device.node])
      #expect(found.status == 3 && found.state("migration", device.node) == "missing", "\(found)")
    }

    @Test("a node that is gone is missing, and is all that is")
    func node() throws {
      let device = try Synthetic("hidden")
      defer { device.remove() }
      try Self.without(device.node) {
        let found = try Examined([device.node])
        #expect(found.status == 3 && found.wrong.contains("node missing"), "\(found)")
        #expect(found.wrong.filter { $0.hasSuffix("missing") } == ["node missing"], "\(found)")
      }
    }

    @Test("without an iommufd the way by groups is judged, and what is foretold of it comes true")
    func groups() throws {
      let device = try Synthetic("grouped", ["iommu": "own"])
      defer { device.remove() }
      func opens(_ way: [String]) throws -> Bool { try Lab.ferry(["show", "--probe", device.node] + way).status == 0 }
      try Self.without("/dev/iommu") {
        let found = try Examined([device.node])
        // Which states a synthetic device has, its driver's name does not say.
        let others = ["kernel-configuration unknown", "quiescing unknown"]
        #expect(found.wrong.filter { !others.contains($0) } == ["iommufd warning"], "\(found)")
        #expect(found.state("container", nil) == "ok" && found.state("container-access", nil) == "ok", "\(found)")
        #expect(found.evidence("node", device.node)?.contains("that of its group") == true, "\(found)")
        #expect(try opens(["--group"]) && !opens([]))
        try Self.without("/dev/vfio/vfio") {
          let found = try Examined([device.node])
          #expect(found.state("container", nil) == "missing" && found.state("node", device.node) == "ok", "\(found)")
          #expect(try !opens(["--group"]))
        }
      }
    }

    /// Does something while a node is not there.
    private static func without(_ node: String, _ body: () throws -> Void) throws {
      try Files.rename(node, to: node + ".aside")
      let result = Result { try body() }
      try Files.rename(node + ".aside", to: node)
      try result.get()
    }

    @Test("of another process the kernel's own answer to open(2) is foretold, before and after the nodes' modes change")
    func access() throws {
      let device = try Synthetic("closed")
      defer { device.remove() }
      let nobody = try Bystander(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"])
      defer { nobody.end() }
      let nodes = [
        (condition: "iommufd-access", path: "/dev/iommu"), (condition: "node-access", path: device.node),
      ]
      for mode in ["0600", "0666", "0640", "0606"] {
        for node in nodes { _ = try Lab.output("chmod", [mode, node.path]) }
        let found = try Examined([device.node, "--pid", "\(nobody.pid)"])
        for node in nodes {
          let opens = try nobody.opens(node.path)
          let state = found.findings.first { $0["condition"] as? String == node.condition }?["state"] as? String
          #expect(state == (opens ? "ok" : "missing"), "\(mode) \(node.path): \(found)")
        }
      }
      for node in nodes { _ = try Lab.output("chmod", ["0600", node.path]) }
    }

    @Test("the limits of another process are its own: locked memory, and that of a control group above it")
    func limits() throws {
      let group = "/sys/fs/cgroup/doctor"
      _ = try Lab.output("sh", ["-c", "echo +memory >/sys/fs/cgroup/cgroup.subtree_control; mkdir -p \(group)/guest"])
      _ = try Lab.output("sh", ["-c", "echo 1G >\(group)/memory.max"])
      let guest = try Bystander([
        "setpriv", "--reuid", "65534", "--clear-groups", "prlimit", "--memlock=8388608:8388608",
      ])
      defer {
        guest.end()
        _ = try? Lab.output("rmdir", ["\(group)/guest", group])
      }
      _ = try Lab.output("sh", ["-c", "echo \(guest.pid) >\(group)/guest/cgroup.procs"])
      func states(_ memory: String) throws -> [String?] {
        let found = try Examined(["--pid", "\(guest.pid)", "--guest-memory", memory])
        return ["locked-memory", "memory-limit"].map { found.state($0, nil) }
      }
      #expect(try states("4M") == ["ok", "ok"])
      #expect(try states("1G") == ["missing", "ok"])
      #expect(try states("1025M") == ["missing", "missing"])
      let root = try Examined(["--guest-memory", "1025M"])
      #expect(root.state("locked-memory", nil) == "ok" && root.state("memory-limit", nil) == "ok", "\(root)")
    }
  }

  /// The same where an Intel IOMMU is on, and a PCI device on vfio-pci.
  @Suite(.serialized, .enabled(if: Lab.nvme != nil))
  struct DoctorNVMeTests {
    @Test("a device on vfio-pci lacks a variant driver, and nothing else is missing")
    func nvme() throws {
      let nvme = try #require(Lab.nvme)
      let found = try Examined([nvme])
      #expect(found.status == 3 && found.wrong.filter { $0.hasSuffix("missing") } == ["driver missing"], "\(found)")
      for condition in ["iommu", "iommufd", "vfio-cdev"] {
        #expect(found.state(condition, nil) == "ok", "\(condition)")
      }
      for condition in ["iommu-group", "capabilities", "ordering"] {
        #expect(found.state(condition, nvme) == "ok", "\(condition) \(found)")
      }
      let unit = try #require(Files.names(in: "/sys/class/iommu").first)
      #expect(found.evidence("iommu", nil)?.contains(unit) == true)
    }

    @Test("a device that the host's driver has is told from one that VFIO has, and has no node to be missing")
    func unbound() throws {
      let folder = "/sys/bus/pci/devices"
      let other = try #require(
        Files.names(in: folder).first { Files.text("\(folder)/\($0)/class") == "0x010802" && $0 != Lab.nvme })
      let found = try Examined([other])
      #expect(found.state("driver", other) == "missing" && found.state("node", other) == nil, "\(found)")
    }
  }
}

/// What `vfio-ferry doctor -j` says.
private struct Examined: CustomStringConvertible {
  let status: Int32
  let findings: [[String: Any]]
  let description: String

  init(_ arguments: [String]) throws {
    let ended = try Lab.ferry(["doctor", "-j"] + arguments)
    status = ended.status
    description = ended.out + ended.err
    let object = try #require(try JSONSerialization.jsonObject(with: Data(ended.out.utf8)) as? [String: Any])
    findings = try #require(object["findings"] as? [[String: Any]])
  }

  /// What does not hold, once for each condition.
  var wrong: [String] {
    var wrong: [String] = []
    for finding in findings where finding["state"] as? String != "ok" {
      let text = "\(finding["condition"] ?? "") \(finding["state"] ?? "")"
      if !wrong.contains(text) { wrong.append(text) }
    }
    return wrong
  }

  var devices: [String] { findings.compactMap { $0["device"] as? String } }

  private func finding(_ condition: String, _ device: String?) -> [String: Any]? {
    findings.first { $0["condition"] as? String == condition && $0["device"] as? String == device }
  }
  func state(_ condition: String, _ device: String?) -> String? { finding(condition, device)?["state"] as? String }
  func evidence(_ condition: String, _ device: String?) -> String? {
    finding(condition, device)?["evidence"] as? String
  }
}

/// A process of another user's or with other limits, that opens what it is told to.
private final class Bystander {
  private let process = Process()
  private let input = Pipe()
  private let output = Pipe()

  /// - Parameter prefix: what makes it what it is, such as `setpriv …`.
  init(_ prefix: [String]) throws {
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    // `exec` throughout, so that the process that was started is the one that opens.
    process.arguments =
      prefix + [
        "bash", "-c", "echo ready; while read -r path; do if : <>\"$path\"; then echo yes; else echo no; fi; done",
      ]
    process.standardInput = input
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    try #require(try answer() == "ready")
  }

  var pid: Int32 { process.processIdentifier }

  func opens(_ path: String) throws -> Bool {
    try input.fileHandleForWriting.write(contentsOf: Data("\(path)\n".utf8))
    return try answer() == "yes"
  }

  private func answer() throws -> String {
    var line: [UInt8] = []
    while let byte = try output.fileHandleForReading.read(upToCount: 1)?.first, byte != 10 { line.append(byte) }
    return String(decoding: line, as: UTF8.self)
  }

  func end() {
    try? input.fileHandleForWriting.close()
    process.waitUntilExit()
  }
}
