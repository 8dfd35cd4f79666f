// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import LinuxIO
import Testing
import Topology
import TopologyFixtures

@testable import vfio_ferry

struct DoctorCommandTests {
  /// One function, whose driver needs no NIC to tell of it.
  private static let accelerator: DoctorHost = {
    var host = DoctorHost.connectX
    let driver = "id=15b3:101e class=0x020000 driver=mlx5_vfio_pci bars=0:2Mp ats=off vf-of=16:00.0"
    host.tree = host.tree.split(separator: driver, omittingEmptySubsequences: false)
      .joined(separator: "id=8086:4941 class=0x0b4000 driver=qat_vfio_pci bars=0:2Mp ats=off vf-of=16:00.0")
    host.files["\(DoctorHost.home(0, function: 2))/modalias"] = "pci:v00008086d00004941sv"
    return host
  }()

  /// What it prints of a host, without the host's place.
  private func run(_ host: DoctorHost, _ arguments: [String]) throws -> (out: String, failure: CommandFailure?) {
    let made = try host.make()
    let collector = Collector()
    var failure: CommandFailure?
    do {
      try DoctorCommand.parse(arguments).execute(
        collector.console, system: made.root, examination: HostExamination(root: made.root))
    } catch let error as CommandFailure {
      failure = error
    }
    return (collector.out.split(separator: made.folder.path, omittingEmptySubsequences: false).joined(), failure)
  }

  @Test("where all is well there is a line for each condition, what was not judged, and exit status 0")
  func good() throws {
    let (out, failure) = try run(Self.accelerator, ["16:00.2"])
    #expect(failure == nil)
    #expect(
      out == """
        HOST
          ok  kernel-configuration  read from /boot/config-7.0.3
          ok  vfio                  /sys shows VFIO
          ok  iommu                 /sys/class/iommu has dmar0
          ok  iommufd               /dev/iommu is there
          ok  iommufd-access        \(Self.owned("/dev/iommu"))
          ok  vfio-cdev             0000:16:00.2 has the character device 511:0
          ok  debugfs               /sys/kernel/debug/vfio is there
          ok  quiescing             as these drivers usually are, there is an order: 0000:16:00.2
        0000:16:00.2
          ok  driver                qat_vfio_pci has it
          ok  iommu-group           it is alone in group 5
          ok  node                  /dev/vfio/devices/vfio0 is there
          ok  node-access           \(Self.owned("/dev/vfio/devices/vfio0"))
          ok  dirty-tracking        qat_vfio_pci has no log of its own; the extended capabilities of dmar0 are 0xee9e86f050df: SSADS, and the kernel got sm_on
          ok  capabilities          its capabilities could be read
          ok  ordering              its physical function 0000:16:00.0 has ID-based ordering off, and so has the root port 0000:15:01.0 above it
          ok  control-path          it and its physical function 0000:16:00.0 are both below 0000:15:01.0
          ok  migration             /sys/kernel/debug/vfio/0000:16:00.2/migration is there
          ok  huge-pages            /sys/kernel/mm/hugepages: 512 of 2 MiB; transparent ones of 2 MiB
        not judged: retry-budget; give --downtime MS
        not judged: locked-memory, memory-limit; give --guest-memory SIZE
        18 ok

        """)
  }

  /// Whoever runs the tests owns what they make.
  private static func owned(_ node: String) -> String {
    "\(node) belongs to \(getuid()):\(getgid()), mode 0666; this process is user 4242"
  }

  @Test("the worst comes first, with why and what to do, and the exit status goes by it")
  func bad() throws {
    var host = Self.accelerator
    host.absent.append("dev/vfio/devices/vfio0")
    host.files["sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"] = "4"
    let (out, failure) = try run(host, ["16:00.2"])
    #expect(failure == .refused("1 missing, 1 warning, 15 ok"))
    let lines = out.split(separator: "\n")
    let device = try #require(lines.firstIndex(of: "0000:16:00.2"))
    #expect(
      lines[(device + 1)...].prefix(6).map(String.init) == [
        "  missing  node                  the kernel has the character device 511:0, and there is no node of it in /dev/vfio/devices",
        "                                 why: a VMM opens the device by its node, or where it has none by that of its group",
        "                                 do:  pass the node into the container, if this is one; else mount devtmpfs on /dev, or mknod it with the number in /sys/devices/pci0000:15/0000:15:01.0/0000:16:00.2/vfio-dev/*/dev",
        "  warning  huge-pages            /sys/kernel/mm/hugepages: 512 of 2 MiB, 4 of 1 GiB; transparent ones of 2 MiB; only the IOMMU tracks what it writes, with a bit for 1 GiB",
        "                                 why: an IOMMU keeps one dirty bit for all of a huge page: whatever is written, the whole page is sent",
        "                                 do:  back guests that are to be moved by pages of 2 MiB: echo N >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
      ])
    host.absent = []
    #expect(try run(host, ["16:00.2"]).failure == CommandFailure(status: .warned, message: "1 warning, 17 ok"))
    // Only the running kernel tells whether a function was made migratable, and this is another system.
    let unclear = try run(.connectX, DoctorHost.functions)
    #expect(unclear.failure?.status == .unclear, "\(unclear)")
    #expect(unclear.failure?.message.hasPrefix("4 unknown, ") == true, "\(unclear)")
  }

  @Test("as JSON each finding has all that is known of it")
  func json() throws {
    var host = Self.accelerator
    host.absent.append("dev/vfio/devices/vfio0")
    let (out, failure) = try run(host, ["-j", "16:00.2", "--guest-memory", "1G", "--downtime", "10"])
    #expect(failure?.status == .refused)
    let object = try #require(try JSONSerialization.jsonObject(with: Data(out.utf8)) as? [String: Any])
    #expect(object["worst"] as? String == "missing")
    let unjudged = try #require(object["not_judged"] as? [[String: String]])
    #expect(
      unjudged == [
        ["condition": "retry-budget", "needs": "a function of a ConnectX, of which alone this is known"]
      ])
    let findings = try #require(object["findings"] as? [[String: Any]])
    let node = try #require(findings.first { $0["condition"] as? String == "node" })
    #expect(Set(node.keys) == ["condition", "device", "state", "evidence", "why", "remedy"])
    #expect(node["device"] as? String == "0000:16:00.2" && node["state"] as? String == "missing")
    let host1 = try #require(findings.first { $0["condition"] as? String == "vfio" })
    #expect(host1["device"] is NSNull && host1["remedy"] is NSNull && host1["state"] as? String == "ok")
  }

  @Test("links that the operator denies are no reason to refuse an order")
  func declared() throws {
    var host = DoctorHost.connectX
    host.tree = host.tree.split(separator: "driver=mlx5_vfio_pci").joined(separator: "driver=hisi_acc_vfio_pci")
    host.files["lib/modules/\(DoctorHost.release)/modules.alias"] = nil
    let names = DoctorHost.functions
    func quiescing(_ arguments: [String]) throws -> String {
      let line = try run(host, names + arguments).out.split(separator: "\n").first { $0.contains("  quiescing  ") }
      return String(try #require(line).split(separator: " ")[0])
    }
    #expect(try quiescing([]) == "missing")
    #expect(try quiescing(["--no-link", names.joined(separator: ",")]) == "ok")
  }

  @Test(
    "what makes no sense is misuse",
    arguments: [
      ["--pid", "0"], ["--pid", "1", "--root", "/x"], ["--image-size", "1G"], ["--guest-memory", "0"],
      ["--guest-memory", "much"], ["--downtime", "0"], ["--timeout", "3", "--retries", "3"],
      ["--downtime", "9", "--timeout", "3"], ["--downtime", "9", "--timeout", "32", "--retries", "3"],
      ["--downtime", "9", "--timeout", "3", "--retries", "8"], ["--downtime", "9", "--adaptive"], ["--flush"],
      ["--root", ""], ["--no-link", "all"],
    ])
  func misuse(arguments: [String]) {
    #expect(throws: (any Error).self) { try DoctorCommand.parse(arguments) }
  }

  @Test("no such device, no such process and no such system are exit status 4; a device named twice is misuse")
  func nothing() throws {
    #expect(try run(.connectX, ["0000:ff:00.0"]).failure?.status == .nothing)
    #expect(try run(.connectX, ["--pid", "77"]).failure == .nothing("there is no process 77"))
    #expect(try run(.connectX, ["16:00.2", "0000:16:00.2"]).failure?.status == .misuse)
    let collector = Collector()
    #expect(throws: CommandFailure.nothing("there is no /nonexistent/sys")) {
      try DoctorCommand.parse(["--root", "/nonexistent/"]).execute(collector.console)
    }
  }

  @Test("on this machine it says of VFIO, of the iommufd and of the IOMMU what the kernel shows, and binds nothing")
  func here() throws {
    let collector = Collector()
    do {
      try DoctorCommand.parse(["-j"]).execute(collector.console)
    } catch let failure as CommandFailure {
      #expect([.refused, .warned, .unclear].contains(failure.status), "\(failure)")
    }
    let object = try #require(try JSONSerialization.jsonObject(with: Data(collector.out.utf8)) as? [String: Any])
    let findings = try #require(object["findings"] as? [[String: Any]])
    func state(_ condition: String) -> String? {
      findings.first { $0["condition"] as? String == condition && $0["device"] is NSNull }?["state"] as? String
    }
    #expect((state("vfio") == "ok") == Inventory().hasVFIO)
    #expect((state("iommufd") == "ok") == Files.exists("/dev/iommu"))
    if let iommu = state("iommu") { #expect((iommu == "ok") == PCIScanner().tree(titles: false, rdma: false).hasIOMMU) }
    let release = try Files.readText("/proc/sys/kernel/osrelease")
    let configurations = ["/proc/config.gz", "/boot/config-\(release)", "/lib/modules/\(release)/config"]
    #expect((state("kernel-configuration") == "ok") == configurations.contains(where: Files.exists))
    let devices = Set(findings.compactMap { $0["device"] as? String })
    #expect(devices.isSubset(of: Inventory().devices().map { "\($0.name)" }))
  }
}
