// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Testing

@testable import VFIO

extension LabTests {
  /// What a device is attached to, and which trackers that gives.
  @Suite(.serialized, .enabled(if: Lab.synthetic))
  struct TrackerOffersTests {
    private static let run = 0x100_0000..<0x110_0000 as Range<UInt64>

    private func withGuest(
      _ way: WatchedGuest.Way, _ settings: KeyValuePairs<String, String> = [:], _ body: (WatchedGuest) throws -> Void
    ) throws {
      let synthetic = try Synthetic("offers", ["iommu": way.iommu.rawValue, "dma_rate": "10000"])
      defer { synthetic.remove() }
      for (setting, value) in settings { try synthetic.set(setting, value) }
      let guest = try WatchedGuest(synthetic, way, guest: [0..<1 << 20])
      try body(guest)
      withExtendedLifetime(guest) {}
    }

    @Test(
      "a device reaches what is mapped in what it is attached to; detached, it reaches nothing",
      arguments: [WatchedGuest.Way.pageTable, .addressSpace])
    func attached(way: WatchedGuest.Way) throws {
      try withGuest(way) { guest in
        try guest.map(MappedRun(Self.run, guest: 0))
        try guest.write([Self.run])
        #expect(guest.writtenPages == 256 && guest.device.attachment != nil)
        #expect(try guest.synthetic.referee["dma_faults"] == 0)
        let attachment = try #require(guest.device.attachment)
        try guest.device.detach()
        #expect(guest.device.attachment == nil)
        try guest.start()
        try Lab.wait(until: "a write reached nothing") { try guest.synthetic.referee["dma_faults"] > 0 }
        try guest.stop()
        try guest.device.attach(to: attachment)
        let faults = try guest.synthetic.referee["dma_faults"]
        try guest.write([Self.run])
        #expect(try guest.synthetic.referee["dma_faults"] == faults)
        // What is no object of this iommufd changes nothing.
        let other = try AddressSpace(in: IOMMUFD())
        #expect(throws: SystemError.self) {
          try guest.device.attach(to: .addressSpace(AddressSpace(adopting: 4000, in: other.iommufd)))
        }
        #expect(guest.device.attachment != nil)
      }
    }

    @Test(
      "a device is attached by a page table that tracks writes where its IOMMU can", arguments: Synthetic.IOMMU.allCases
    )
    func attachTracking(iommu: Synthetic.IOMMU) throws {
      let synthetic = try Synthetic("offers", ["iommu": iommu.rawValue])
      defer { synthetic.remove() }
      let device = try synthetic.open()
      let space = try AddressSpace(in: #require(device.support as? IOMMUFD))
      try device.attachTracking(to: space)
      switch (device.attachment, iommu) {
      case (.pageTable, .own), (.addressSpace, .emulated): break
      default: Issue.record("it is attached to \(String(describing: device.attachment))")
      }
    }

    @Test("what there is for a device, and why there is no more")
    func offers() throws {
      func reason(_ device: KernelDevice, _ wish: TrackerWish = .auto) throws -> String {
        var offers = TrackerOffers()
        return try TrackerChoice(for: device.name, wish, from: offers.offers(for: device)).reason
      }
      try withGuest(.pageTable) { guest in
        #expect(try reason(guest.device) == "iommu, the first choice")
        #expect(try reason(guest.device, .only(.device)) == "device, as asked for")
        #expect(throws: TrackerRefusal.self) { try reason(guest.device, .only(.container)) }
        guard case .pageTable(let table) = guest.device.attachment else { return }
        try guest.device.attach(to: .addressSpace(table.space))
        #expect(
          try reason(guest.device)
            == "device; no iommu: the device is not attached to a page table that tracks writes")
      }
      try withGuest(.addressSpace) { (guest) throws in
        #expect(try reason(guest.device) == "device; no iommu: the device has no IOMMU of its own")
      }
      try withGuest(.container) { (guest) throws in
        #expect(try reason(guest.device) == "device; no iommu: it is in a container, not in an iommufd")
        #expect(try reason(guest.device, .only(.container)) == "container, as asked for")
      }
    }

    @Test("devices on one page table are offered one tracker, also where its number was adopted; others have their own")
    func shared() throws {
      let first = try Synthetic("offers", ["iommu": "own"])
      defer { first.remove() }
      let second = try Synthetic("offers", ["iommu": "own"])
      defer { second.remove() }
      let iommufd = try IOMMUFD()
      let space = try AddressSpace(in: iommufd)
      let devices = try [first, second].map {
        try iommufd.openDevice(node: $0.node, name: #require(DeviceName($0.node)))
      }
      let table = try PageTable(for: #require(devices[0].iommufdNumber), of: space)
      let adopted = PageTable(adopting: table.number, of: AddressSpace(adopting: space.number, in: iommufd))
      try devices[0].attach(to: .pageTable(table))
      try devices[1].attach(to: .pageTable(adopted))
      func tracker(_ offers: [TrackerOffer]) -> (any DirtyTracker)? {
        if case .ready(let tracker) = offers[0] { tracker } else { nil }
      }
      var offers = TrackerOffers()
      var trackers: [any DirtyTracker] = []
      for device in devices { trackers.append(try #require(tracker(offers.offers(for: device)))) }
      #expect(trackers[0].kind == .iommu && trackers[0] === trackers[1])
      try devices[1].attach(to: .pageTable(PageTable(for: #require(devices[1].iommufdNumber), of: space)))
      let own = offers.offers(for: devices[1])
      #expect(tracker(own) !== trackers[0] && tracker(own)?.kind == .iommu)
    }

    @Test("show names the tracker and the reason once the device can be asked, and nothing before")
    func show() throws {
      func shown(_ synthetic: Synthetic, _ options: String...) throws -> (tracker: String?, reason: String?) {
        let ended = try Lab.ferry(["show", "--json", synthetic.node] + options)
        #expect(ended.status == 0, "\(ended.err)")
        let object = try #require(try JSONSerialization.jsonObject(with: Data(ended.out.utf8)) as? [String: Any])
        return (object["tracker"] as? String, object["tracker_reason"] as? String)
      }
      let own = try Synthetic("offers", ["iommu": "own"])
      defer { own.remove() }
      #expect(try shown(own) == (nil, nil))
      #expect(try shown(own, "--probe") == ("iommu", "iommu, the first choice"))
      let emulated = try Synthetic("offers", ["log": "0"])
      defer { emulated.remove() }
      let noLog = "no device: the device has no log of its own"
      #expect(
        try shown(emulated, "--probe", "--group")
          == ("container", "container; no iommu: it is in a container, not in an iommufd; \(noLog)"))
      #expect(
        try shown(emulated, "--probe")
          == (
            "everything",
            "everything; no iommu: the device has no IOMMU of its own; \(noLog); "
              + "no container: the device is in an iommufd"
          ))
      let holder = try DeviceHolder(own.node)
      defer { holder.quit() }
      #expect(
        try shown(own, "--pid", "\(holder.pid)")
          == ("device", "device; no iommu: which page table it is on only its holder knows"))
      let table = try Lab.ferry(["show", own.node, "--pid", "\(holder.pid)"]).out
      #expect(table.contains("dirty pages") && table.contains("device; no iommu"), "\(table)")
    }
  }
}
