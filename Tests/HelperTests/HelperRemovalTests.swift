// SPDX-License-Identifier: Apache-2.0
import FakeDevices
import LinuxIO
import Migration
import Synchronization
import Testing

@testable import Helper

/// A device whose call does not come back until a test lets it.
private final class Hanging {
  let device: FakeDevice
  private let release = BlockingQueue<Void>()

  /// - Parameter call: the number of the call that hangs, of all calls on the device.
  init(at call: Int) {
    let script = Script(at: call, .interrupt)
    script.interrupt.withLock { [release] in $0 = { _ = release.take() } }
    device = FakeDevice("0000:00:01.0", features: [.stopCopy, .p2p, .preCopy], image: [1, 2, 3], script: script)
  }

  func letGo() { release.put(()) }

  deinit { release.close() }
}

@Suite("A device that hangs, and is removed", .serialized)
struct HelperRemovalTests {
  private static let other = FakeDevice(
    "0000:00:02.0", features: [.stopCopy, .p2p, .preCopy], image: [4, 5], script: Script())

  private static func add(_ vmm: TestVMM, _ id: UInt32, _ device: FakeDevice) throws -> HelperReply {
    let file = SentFile(try Descriptor.inMemory(name: "stands for a device"))
    let wanted = HelperDevice(
      device: id, name: device.name, space: 1, tracker: .auto, support: .none, iommufdNumber: nil, pageTable: nil,
      logLimits: nil)
    return try vmm.ask(.addDevice(wanted), file)
  }

  /// A VMM whose first device hangs as pre-copy begins, and was given up; the session is over.
  private static func givenUp(_ hanging: Hanging, metrics: HelperMetrics? = nil) throws -> TestVMM {
    let vmm = try TestVMM([hanging.device, other], metrics: metrics)
    _ = try vmm.ask(.hello(major: 1, minor: 0, features: [], version: "test"))
    _ = try add(vmm, 1, hanging.device)
    _ = try add(vmm, 2, other)
    var save = HelperSessionBench.save()
    save.stepLimit = 20_000
    _ = try vmm.ask(.beginSave(save), SentFile(try Descriptor.inMemory(name: "a stream")))
    try vmm.wait { if case .hung(1, _, _, _) = $0 { true } else { false } }
    _ = try vmm.ask(.declareDead(device: 1))
    try vmm.wait { if case .failed = $0 { true } else { false } }
    return vmm
  }

  /// Its state and its size are asked when it is added and when the session begins; then it enters pre-copy.
  private static let enteringPreCopy = 5

  private static func code(_ reply: HelperReply) -> HelperCode? {
    if case .failure(let failure) = reply { failure.code } else { nil }
  }

  @Test("a device whose call has not come back is not said to be let go of")
  func hangs() throws {
    let hanging = Hanging(at: Self.enteringPreCopy)
    let metrics = HelperMetrics(name: "x", version: "test")
    func counted(_ count: Int) -> Bool {
      metrics.page.contains("\nvfio_ferry_helper_hung_devices{helper=\"x\"} \(count)\n")
    }
    let vmm = try Self.givenUp(hanging, metrics: metrics)
    #expect(counted(1))
    #expect(Self.code(try vmm.ask(.removeDevice(1))) == .hung)
    // It is gone for the session all the same, and the other is as it was.
    #expect(counted(0))
    #expect(Self.code(try vmm.ask(.describe(device: 1))) == .noSuch)
    #expect(try vmm.ask(.removeDevice(2)) == .done)
    hanging.letGo()
    vmm.hangUp()
    #expect(vmm.ending()?.status == 0)
  }

  @Test("a device whose call comes back in time is let go of then, and not before")
  func comesBack() throws {
    let hanging = Hanging(at: Self.enteringPreCopy)
    let vmm = try Self.givenUp(hanging)
    let removal = try vmm.send(.removeDevice(1))
    // Whatever was going to be said at once has been said when this has its reply.
    _ = try vmm.ask(.status)
    #expect(!vmm.hasReply(to: removal))
    hanging.letGo()
    #expect(try vmm.reply(to: removal) == .done)
    vmm.hangUp()
    #expect(vmm.ending()?.status == 0)
  }
}
