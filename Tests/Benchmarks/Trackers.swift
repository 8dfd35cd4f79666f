// SPDX-License-Identifier: Apache-2.0
// Reading a device's own log of a guest with 1 TiB, against the bare ioctl in C on the same log.
import CBaseline
import Engine
import LinuxIO
import Migration
import VFIO

/// How 1 % of the guest's pages are dirty.
private struct DirtyShape {
  let name: String
  /// Bytes of a run, and from one to the next.
  let run: UInt64
  let stride: UInt64
}

/// A log over 1 TiB that begins above 4 GiB, tracked as a session does it.
@safe
private final class TrackedLog {
  private static let start: UInt64 = 4 << 30
  private static let size: UInt64 = 1 << 40
  private static let page: UInt64 = 4096

  private let device: SyntheticDevice
  private var memory: TrackedMemory
  private var bitmap: DirtyBitmap<SharedWords>
  private let plain: UnsafeMutablePointer<UInt64>

  init(_ device: SyntheticDevice) throws {
    let layout = try DirtyLayout(ranges: [0..<Self.size], pageSize: Self.page)
    let choice = try TrackerChoice(for: device.device.name, from: [DeviceLogTracker.offer(device.device)])
    if choice.kind != .device { fail(choice.reason) }
    var memory = TrackedMemory(layout: layout, [choice])
    // As a session has it that shares its bitmap with a VMM.
    var bitmap = try DirtyBitmap(sharing: layout)
    try memory.add(MappedRun(Self.start..<Self.start + Self.size, guest: 0), into: &bitmap)
    memory.start(into: &bitmap)
    bitmap.clearAll()
    self.device = device
    self.memory = memory
    self.bitmap = bitmap
    unsafe plain = log_bitmap(UInt64(layout.wordCount))
  }

  private func write(_ shape: DirtyShape) throws -> Int {
    let runs = Self.size / shape.stride
    try device.set("log_set", "\(Self.start) \(shape.run) \(shape.stride) \(runs)")
    return Int(runs * (shape.run / Self.page))
  }

  /// Nanoseconds of one reading into a bitmap that is clean, as the last one left it.
  func mine(_ shape: DirtyShape) throws -> Double {
    let pages = try write(shape)
    let begin = monotonicMicroseconds()
    memory.read(into: &bitmap)
    let took = monotonicMicroseconds() - begin
    if let failure = memory.failures.first { fail("\(failure.error)") }
    let found = try bitmap.count(in: 0..<Self.size)
    if found != pages { fail("\(found) pages were found where \(pages) are dirty") }
    bitmap.clearAll()
    return Double(took) * 1000
  }

  /// Nanoseconds of the bare ioctl.
  func theirs(_ shape: DirtyShape) throws -> Double {
    let pages = try write(shape)
    var found: UInt64 = 0
    let took = unsafe log_report(device.number, Self.start, Self.size, Self.page, plain, &found)
    if took < 0 { fail("the C program's ioctl failed with errno \(-took)") }
    if found != pages { fail("the C program found \(found) pages where \(pages) are dirty") }
    return Double(took)
  }
}

func benchTrackers() throws -> Bool {
  let device = try SyntheticDevice("log")
  let log = try TrackedLog(device)
  var holds = true
  // 1 % both: as random access leaves it, and as a stream of large buffers does.
  let shapes = [
    DirtyShape(name: "every hundredth page", run: 4096, stride: 409_600),
    DirtyShape(name: "runs of 1 MiB", run: 1 << 20, stride: 100 << 20),
  ]
  for shape in shapes {
    var mine: [Double] = []
    var theirs: [Double] = []
    // In turns, and the fastest of each: whatever else the machine does only ever makes one slower.
    for round in 0..<12 {
      if round % 2 == 0 { theirs.append(try log.theirs(shape)) }
      mine.append(try log.mine(shape))
      if round % 2 == 1 { theirs.append(try log.theirs(shape)) }
    }
    let (own, bare) = (mine.min()!, theirs.min()!)
    print(
      "a reading of a device's log of 1 TiB, 1 % dirty, \(shape.name): \(decimals(own / bare)) times the bare ioctl "
        + "(\(decimals(own / 1_000_000, 1)) ms against \(decimals(bare / 1_000_000, 1)) ms, the fastest of \(mine.count); "
        + "medians \(decimals(median(mine) / 1_000_000, 1)) ms and \(decimals(median(theirs) / 1_000_000, 1)) ms)")
    if !promise(own / bare < 1.5, "under 1.5 times the bare ioctl") { holds = false }
  }
  return holds
}
