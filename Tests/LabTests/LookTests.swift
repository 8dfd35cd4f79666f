// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing
import Topology
import VFIO

extension LabTests {
  /// Commands that only look do not touch; commands that change things say what they did.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct LookTests {
    @Test("list and show name every device with driver, node and state, and bind nothing")
    func look() throws {
      let holder = try DeviceHolder(Lab.mtty[0])
      holder.mark([0x31, 0x32])
      #expect(holder.ask("set stop") == "ok")
      let list = try Lab.ferry(["list"])
      #expect(list.status == 0)
      for name in Lab.mtty { #expect(list.out.contains(name)) }
      #expect(list.out.split(separator: "\n").first { $0.hasPrefix(Lab.mtty[0]) }?.contains("stop") == true)
      let show = try Lab.ferry(["show", "--json", Lab.mtty[0]])
      let object = try #require(
        try JSONSerialization.jsonObject(with: Data(show.out.utf8)) as? [String: Any])
      #expect(object["state"] as? String == "stop")
      #expect(object["driver"] as? String == "mtty")
      #expect(object["migratable"] as? Bool == true)
      #expect(object["features"] is NSNull)
      #expect(holder.ask("state").hasSuffix("stop"))
      #expect(holder.ask("set running") == "ok")
      #expect(holder.marks() == [0x31, 0x32])
      holder.quit()
    }

    @Test("show --pid asks the device itself through the holder's descriptor", arguments: [false, true])
    func showHeld(group: Bool) throws {
      let holder = try DeviceHolder(Lab.mtty[0], group: group)
      let show = try Lab.ferry(["show", "--json", Lab.mtty[0], "--pid", "\(holder.pid)"])
      #expect(show.status == 0, "\(show.err)")
      let object = try #require(
        try JSONSerialization.jsonObject(with: Data(show.out.utf8)) as? [String: Any])
      #expect(object["features"] as? [String] == ["stop-copy", "p2p", "pre-copy"])
      #expect(object["stop_copy_bytes"] as? Int == 96)
      let list = try Lab.ferry(["list", "--pid", "\(holder.pid)"])
      #expect(list.out.contains(Lab.mtty[0]) && !list.out.contains(Lab.mtty[1]), "\(list.out) \(list.err)")
      let wrong = try Lab.ferry(["show", Lab.mtty[0], "--pid", "\(holder.pid)", "--fd", "0"])
      #expect(wrong.status == 4 && wrong.err.contains("descriptor 0 of process"), "\(wrong.err)")
      let other = try Lab.ferry(["show", Lab.mtty[1], "--pid", "\(holder.pid)"])
      #expect(other.status == 4, "\(other.err)")
      holder.quit()
    }

    @Test("state --through takes a device through states and leaves it there; the graph is asked first")
    func through() throws {
      let device = Lab.mtty[0]
      let done = try Lab.ferry(["state", device, "--through", "pre-copy,stop-copy,stop,running"])
      #expect(done.status == 0, "\(done.err)")
      #expect(done.out.split(separator: "\n").count == 4)
      let refused = try Lab.ferry(["state", device, "--through", "stop-copy,pre-copy"])
      #expect(refused.status == 3)
      #expect(refused.err.contains("stop-copy to pre-copy"), "\(refused.err)")
      #expect(try Lab.debugState(device) == "RUNNING")
      let forced = try Lab.ferry(["state", device, "--force", "--through", "stop-copy,pre-copy"])
      #expect(forced.status == 1)
      #expect(forced.out.contains("EINVAL"), "\(forced.out)")
      #expect(try Lab.debugState(device) == "STOP_COPY")
      #expect(try Lab.ferry(["state", device]).out == "stop-copy\n")
      #expect(try Lab.ferry(["state", device, "--through", "running"]).status == 0)
      let unknown = try Lab.ferry(["state", device, "--through", "sleeping"])
      #expect(unknown.status == 2)
    }

    @Test("walk takes every arc and ends in running with the device's state unchanged")
    func walk() throws {
      try DeviceHolder.mark(Lab.mtty[0], [0x51, 0x52])
      let ended = try Lab.ferry(["walk", "--json", Lab.mtty[0]])
      #expect(ended.status == 0, "\(ended.err)")
      let object = try #require(
        try JSONSerialization.jsonObject(with: Data(ended.out.utf8)) as? [String: Any])
      let steps = try #require(object["steps"] as? [[String: Any]])
      let arcs = Set(steps.map { "\($0["from"] ?? "")>\($0["asked"] ?? "")" })
      // running, running-p2p, stop, stop-copy, resuming, pre-copy and pre-copy-p2p have 15 single arcs between them.
      #expect(arcs.count == 15)
      #expect(steps.allSatisfy { $0["errno"] is NSNull })
      #expect(try Lab.debugState(Lab.mtty[0]) == "RUNNING")
      #expect(try DeviceHolder.marks(Lab.mtty[0]) == [0x51, 0x52])
    }

    @Test("a device that does not exist is exit status 4, a name that is none is 2")
    func names() throws {
      #expect(try Lab.ferry(["show", "0000:ff:1f.7"]).status == 4)
      #expect(try Lab.ferry(["show", "nonsense"]).status == 2)
      #expect(try Lab.ferry(["save", "/dev/vfio/devices/vfio99", "-o", "/tmp/x"]).status == 4)
    }
  }
}

extension LabTests {
  /// The nvme that QEMU emulates, on plain vfio-pci behind the Intel IOMMU.
  @Suite(.serialized, .enabled(if: Lab.nvme != nil))
  struct NVMeTests {
    @Test("a device without migration is refused as not migratable, with the reason, before it is bound")
    func refused() throws {
      let nvme = try #require(Lab.nvme)
      for arguments in [
        ["save", nvme, "-o", "/tmp/x"], ["state", nvme], ["state", nvme, "--through", "stop"], ["walk", nvme],
      ] {
        let ended = try Lab.ferry(arguments)
        #expect(ended.status == 3)
        #expect(ended.err.contains("not migratable") && ended.err.contains("vfio-pci"), "\(ended.err)")
        #expect(!ended.err.contains("binding"))
      }
    }

    @Test("list --probe binds it, says that this resets it, and finds no migration; list alone does neither")
    func probe() throws {
      let nvme = try #require(Lab.nvme)
      let looked = try Lab.ferry(["list"])
      #expect(looked.out.contains(nvme) && looked.err.isEmpty)
      let probed = try Lab.ferry(["list", "--probe"])
      #expect(probed.err.contains("binding \(nvme) resets it"))
      #expect(probed.out.split(separator: "\n").first { $0.hasPrefix(nvme) }?.contains("not migratable") == true)
    }

    @Test("a process that holds it by group and container is looked into with --pid")
    func held() throws {
      let nvme = try #require(Lab.nvme)
      let holder = try DeviceHolder(nvme, group: true)
      let show = try Lab.ferry(["show", nvme, "--pid", "\(holder.pid)"])
      #expect(show.status == 0 && show.out.contains("not migratable"), "\(show.out) \(show.err)")
      holder.quit()
    }

    @Test(
      "bound and attached, it has nobody who tracks its writes; that is found, with the reason, and everything is dirty"
    )
    func tracker() throws {
      let nvme = try #require(Lab.nvme)
      let iommufd = try IOMMUFD()
      let record = try Lab.record(nvme)
      let device = try iommufd.openDevice(node: try #require(record.node), name: record.name)
      let space = try AddressSpace(in: iommufd)
      let number = try #require(device.iommufdNumber)
      #expect(try !iommufd.canTrackWrites(of: number))
      #expect(throws: SystemError.self) { try PageTable(for: number, of: space) }
      try device.attachTracking(to: space)
      guard case .addressSpace = device.attachment else {
        Issue.record("it is attached to \(String(describing: device.attachment))")
        return
      }
      var offers = TrackerOffers()
      let choice = try TrackerChoice(for: device.name, from: offers.offers(for: device))
      let reason =
        "everything; no iommu: the IOMMU can't track writes; no device: the device has no log of its own; "
        + "no container: the device is in an iommufd"
      #expect(choice.kind == .everything && choice.reason == reason)
      var memory = TrackedMemory(layout: try DirtyLayout(ranges: [0..<1 << 20], pageSize: 4096), [choice])
      var bitmap = DirtyBitmap(layout: memory.map.layout)
      try memory.add(MappedRun(1 << 32..<1 << 32 + 8192, guest: 0), into: &bitmap)
      memory.start(into: &bitmap)
      bitmap.clearAll()
      memory.read(into: &bitmap)
      #expect(try bitmap.count(in: 0..<1 << 20) == 2 && memory.failures.isEmpty && memory.stop().isEmpty)
      try device.detach()
      let show = try Lab.ferry(["show", nvme, "--json"])
      #expect(show.out.contains("\"tracker\":null"), "\(show.out)")
    }

    @Test("show --probe says why the nvme's writes can't be tracked")
    func shownTracker() throws {
      let nvme = try #require(Lab.nvme)
      let show = try Lab.ferry(["show", nvme, "--json", "--probe"])
      #expect(show.out.contains("\"tracker\":\"everything\"") && show.out.contains("can't track writes"), "\(show.out)")
    }

    @Test("its tag has its layout from the kernel's own files, and looking binds nothing")
    func tag() throws {
      let tag = try Lab.ferry(["tag", try #require(Lab.nvme)])
      #expect(tag.status == 0 && tag.err.isEmpty, "\(tag.err)")
      let lines = tag.out.split(separator: "\n")
      // QEMU's nvme: Red Hat's number, one register range of 16 KiB, MSI-X.
      #expect(
        lines.contains("vendor 1b36") && lines.contains("device 0010") && lines.contains("class 010802"), "\(tag.out)")
      #expect(
        lines.contains { $0.hasPrefix("bars 0:") } && lines.contains { $0.hasPrefix("capabilities ") }, "\(tag.out)")
      #expect(lines.contains { $0.hasPrefix("msix_vectors ") && $0 != "msix_vectors 0" }, "\(tag.out)")
    }

    @Test("a flush reads the registers of the PCI function itself; a function that is gone is an error")
    func flush() throws {
      let nvme = try #require(Lab.nvme)
      // The flush goes past the descriptor, so any will do.
      func device(_ name: String) throws -> KernelDevice {
        KernelDevice(adopting: try Descriptor.open("/dev/null", O_RDWR), name: try #require(DeviceName(name)))
      }
      try device(nvme).flush()
      #expect(throws: DeviceError(.flush, .errno(ErrorNumber(rawValue: ENOENT)))) {
        try device("0000:ff:1f.7").flush()
      }
      // What is no PCI function has nothing to flush.
      try device("/dev/vfio/devices/vfio99").flush()
    }
  }
}
