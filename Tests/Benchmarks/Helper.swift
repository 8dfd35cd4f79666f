// SPDX-License-Identifier: Apache-2.0
// What a helper adds: to a start, to a request's way there and back, to a stop, and to a host's memory.
import CBaseline
import Glibc
import LinuxIO

/// A process at the other end of a socket of packets.
final class PacketPeer {
  let process: Int32
  private let ours: PacketSocket
  var socket: Int32 { ours.descriptor.rawValue }

  /// - Parameters:
  ///   - arguments: three at most.
  ///   - file: is its descriptor 4, and the socket's other end its descriptor 3.
  init(_ program: String, _ arguments: [String], file: Int32 = -1) throws {
    let (mine, theirs) = try PacketSocket.pair()
    ours = mine
    let text: (Int) -> String? = { arguments.indices.contains($0) ? arguments[$0] : nil }
    process = unsafe packets_start(program, text(0), text(1), text(2), theirs.descriptor.rawValue, file)
    if process < 0 { fail("\(program) does not start") }
  }

  /// Its peak memory so far, in KiB.
  var peak: Int { memory(of: "\(process)") }

  /// Hangs up, and waits for its end.
  func end() {
    ours.hangUp()
    if packets_end(process) != 0 { fail("a process ended badly") }
  }
}

/// Peak memory of a process in KiB.
func memory(of process: String) -> Int {
  guard let status = Files.text("/proc/\(process)/status"),
    let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") })
  else { return 0 }
  return Int(line.split(whereSeparator: { $0 == " " || $0 == "\t" })[1]) ?? 0
}

private let own = Files.link("/proc/self/exe") ?? ""

/// How long a helper takes from the call that starts its process to its first reply, confined, beside this program as a process
/// that does nothing but recv and send. Each is where the kernel places it.
private func benchHelperStart(_ program: String) throws -> Bool {
  var request = [UInt8](repeating: 0, count: 64)
  let size = unsafe packets_status(&request, request.count)
  /// Microseconds to the first reply.
  func start(_ program: String, _ arguments: [String], _ ask: (PacketPeer) -> Bool) throws -> Double {
    let begin = monotonicMicroseconds()
    let peer = try PacketPeer(program, arguments)
    if !ask(peer) { fail("\(program) does not answer") }
    let took = monotonicMicroseconds() - begin
    peer.end()
    return Double(took)
  }
  var mine: [Double] = []
  var plain: [Double] = []
  for round in 0..<65 {
    let helper = try start(program, ["helper", "--fd", "3"]) { packets_hello($0.socket) == 0 }
    let echo = try start(own, ["--echo"]) { unsafe packets_ask($0.socket, request, size) > 0 }
    // The first rounds bring the programs into memory.
    if round < 5 { continue }
    mine.append(helper)
    plain.append(echo)
  }
  let ratios = zip(mine, plain).map { $0 / $1 }
  print(
    "vfio-ferry helper from its start to the reply of HELLO, confined: \(decimals(median(ratios), 1)) times ferry-bench as an echo "
      + "(medians \(decimals(median(mine) / 1000)) ms against \(decimals(median(plain) / 1000)) ms; half of the rounds "
      + "\(decimals(mine.sorted()[mine.count / 4] / 1000)) to \(decimals(mine.sorted()[mine.count * 3 / 4] / 1000)) ms)"
  )
  return promise(median(ratios) <= 6, "at most 6 times the echo")
}

/// Where a process and the one that it asks run: the kernel chooses now this and now that, and a thread on a processor that
/// sleeps takes several times as long to wake up.
private enum Placement: String, CaseIterable {
  case apart = "each on a processor of its own"
  case together = "both on one processor"
}

/// Nanoseconds of the median of small requests, where the two processes were, and whether all is as promised. They are on a
/// processor each where there are two, and else on the one.
private func benchRoundTrip(_ program: String) throws -> (nanoseconds: Double, placement: Placement, holds: Bool) {
  let helper = try PacketPeer(program, ["helper", "--fd", "3"])
  let echo = try PacketPeer(own, ["--echo"])
  if packets_hello(helper.socket) != 0 { fail("no hello") }
  var first: (nanoseconds: Double, placement: Placement)?
  var holds = true
  for placement in Placement.allCases {
    guard packets_place(0, 0) == 0,
      packets_place(helper.process, placement == .apart ? 1 : 0) == 0,
      packets_place(echo.process, placement == .apart ? 1 : 0) == 0
    else {
      print("NOT MEASURED: a small request with \(placement.rawValue), because there is only one")
      continue
    }
    let (theirs, ratio) = roundTrips(helper, echo, placement)
    first = first ?? (theirs, placement)
    if !promise(ratio <= 1.5, "at most 1.5 times the ping-pong") { holds = false }
  }
  // What is measured after this is placed by the kernel.
  if packets_place(0, -1) != 0 { fail("this process can't be let go where it wants") }
  let peak = Double(helper.peak) / 1024
  print("memory of an idle session of vfio-ferry helper: \(decimals(peak, 1)) MiB at its peak")
  helper.end()
  echo.end()
  guard let first else { fail("no request was measured") }
  return (first.nanoseconds, first.placement, promise(peak < 24, "under 24 MiB") && holds)
}

/// The median of the helper's, in nanoseconds, and of its ratio to the other's.
private func roundTrips(_ helper: PacketPeer, _ echo: PacketPeer, _ placement: Placement) -> (Double, Double) {
  var request = [UInt8](repeating: 0, count: 64)
  let size = unsafe packets_status(&request, request.count)
  func ask(_ peer: PacketPeer) -> Double {
    let took = unsafe packets_ask(peer.socket, request, size)
    if took < 0 { fail("a request failed") }
    return Double(took)
  }
  var mine: [Double] = []
  var plain: [Double] = []
  var ratios: [Double] = []
  // Rounds of each in turn: one of them alone would find its caches cold each time.
  for round in 0..<220 {
    var pair: [[Double]] = []
    for peer in [helper, echo] { pair.append((0..<100).map { _ in ask(peer) }) }
    // The first rounds warm up.
    if round < 20 { continue }
    ratios.append(median(pair[0]) / median(pair[1]))
    mine += pair[0]
    plain += pair[1]
  }
  let ratio = median(ratios)
  print(
    "a small request to vfio-ferry helper and back, \(placement.rawValue): \(decimals(ratio)) times a bare C ping-pong "
      + "(medians \(decimals(median(mine) / 1000, 1)) us against \(decimals(median(plain) / 1000, 1)) us; half of the "
      + "rounds \(decimals(ratios.sorted()[ratios.count / 4])) to \(decimals(ratios.sorted()[ratios.count * 3 / 4])))")
  return (median(mine), ratio)
}

/// A server with so many devices, and a VMM that has added them.
private func serving(_ times: DeviceTimes, devices: Int, record: Int32) throws -> PacketPeer {
  let helper = try PacketPeer(own, ["--serve=\(times.text)"], file: record)
  if packets_hello(helper.socket) != 0 { fail("no hello") }
  let null = try Descriptor.open("/dev/null", O_RDWR)
  for index in 1...devices {
    let name = unsafe packets_add_device(helper.socket, UInt32(index), "0000:00:0\(index).0", null.rawValue)
    if name != 0 { fail("device \(index) was not taken") }
  }
  return helper
}

/// What a stop of eight devices takes beyond what they take themselves.
private func benchStop(
  _ times: DeviceTimes, _ words: String, _ placement: Placement, roundTrip: Double
) throws -> Bool {
  let devices = 8
  let file = try Descriptor.inMemory(name: "record")
  let helper = try serving(times, devices: devices, record: file.rawValue)
  let record = DeviceRecord(file)
  // Takes whatever it is given at once.
  let link = try Descriptor.open("/dev/null", O_WRONLY)
  var added: [Double] = []
  var windows: [Double] = []
  for round in 0..<110 {
    if packets_save(helper.socket, link.rawValue) != 0 { fail("a save did not begin") }
    let window = packets_stop(helper.socket)
    if window < 0 { fail("a save failed") }
    // The devices are at work all at once, and in each part the slowest is waited for.
    let theirs = DeviceRecord.Part.allCases.reduce(0) { sum, part in
      sum + (0..<devices).reduce(0) { max($0, record.nanoseconds(part, of: $1)) }
    }
    if packets_resume(helper.socket) != 0 { fail("the devices do not run again") }
    if round < 10 { continue }
    windows.append(Double(window))
    added.append(Double(window) - Double(theirs))
  }
  helper.end()
  // The parts of a stop that wait for devices: P2P, STOP_COPY, the reads and STOP. The requests of a stop are three.
  guard let crew = unsafe crew_begin(Int32(devices)) else { fail("no threads could be had") }
  let bare = (0..<110).map { _ in
    unsafe Double(crew_work(crew, Int32(DeviceRecord.Part.allCases.count), times.arc))
  }.suffix(100)
  unsafe crew_end(crew)
  let ratio = median(added) / roundTrip
  print(
    "a stop of \(devices) devices \(words), VCPUS_STOPPED to COMPLETE's reply: the helper adds "
      + "\(decimals(ratio, 1)) round trips of a small request, \(placement.rawValue) (\(decimals(median(added) / 1000, 1)) us of "
      + "\(decimals(median(windows) / 1000, 1)) us; half of the rounds "
      + "\(decimals(added.sorted()[added.count / 4] / 1000, 1)) to \(decimals(added.sorted()[added.count * 3 / 4] / 1000, 1)))"
  )
  print(
    "  of these, what \(devices) bare C threads add that do the same: \(decimals(median(Array(bare)) / roundTrip, 1)) round trips "
      + "(\(decimals(median(Array(bare)) / 1000, 1)) us), and the stop's three requests are three")
  return promise(ratio < 10, "under 10 round trips")
}

private func benchMoving() throws -> Bool {
  let file = try Descriptor.inMemory(name: "record")
  let helper = try serving(DeviceTimes(arc: 0, read: 0, bytes: 1 << 29), devices: 2, record: file.rawValue)
  let link = try Descriptor.open("/dev/null", O_WRONLY)
  if packets_save(helper.socket, link.rawValue) != 0 || packets_stop(helper.socket) < 0 { fail("a save failed") }
  let peak = Double(helper.peak) / 1024
  if packets_resume(helper.socket) != 0 { fail("the devices do not run again") }
  helper.end()
  print(
    "memory of a helper's server that has moved 1 GiB of state of two devices: \(decimals(peak, 1)) MiB at its peak")
  return promise(peak < 64, "under 64 MiB")
}

func benchHelper(_ program: String) throws -> Bool {
  // First, while this process is small: each start is a copy of it.
  var holds = try benchHelperStart(program)
  let roundTrip = try benchRoundTrip(program)
  if !roundTrip.holds { holds = false }
  let ways: [(DeviceTimes, String)] = [
    (DeviceTimes(arc: 0, read: 0, bytes: 4096), "that take no time"),
    (DeviceTimes(arc: 1000, read: 1000, bytes: 4096), "that take 1 ms for an arc and for a read"),
  ]
  for (times, words) in ways {
    if try !benchStop(times, words, roundTrip.placement, roundTrip: roundTrip.nanoseconds) { holds = false }
  }
  return try benchMoving() && holds
}
