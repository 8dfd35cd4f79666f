// SPDX-License-Identifier: Apache-2.0
internal import Glibc
public import LinuxIO
internal import Migration

/// Serves one VMM over one connection, until either has had enough.
///
/// The calling thread has the connection and the session, and never waits for a device: that is done elsewhere
/// (``HelperDriver``). So a status or an abort is answered at once, whatever is under way.
public final class HelperServer {
  /// How it ended.
  public struct Ending: Hashable, Sendable {
    /// What the program exits with.
    public var status: Int32
    /// One line for the log, where there is something to say.
    public var words: String?
  }

  /// A packet on its way out.
  private struct Outgoing {
    let bytes: [UInt8]
    let file: SentFile?
  }

  /// The most packets that may wait for a VMM that does not read. Events beyond half of that are left out where the next of
  /// their kind says more; with more than this the VMM counts as gone.
  private static let mostWaiting = 4096
  /// Microseconds in which a device that is removed has to be let go of.
  private static let removalLimit: UInt64 = 900_000
  /// Microseconds that news wait: longer than a stop, as far as that is the helper's.
  private static let newsDelay: UInt64 = 1000

  private let socket: PacketSocket
  private let mailbox: HelperMailbox
  /// Tests that go on in the same process end with it what is under way.
  let driver: HelperDriver
  private let log: (LogLevel, String) -> Void
  private let metrics: HelperMetrics?
  private var session: HelperSession
  private var outgoing: [Outgoing] = []
  /// What a VMM shows and does not act on: it goes out a little later than the rest.
  private var news: [HelperEvent] = []
  private var newsDue = UInt64.max
  /// The types of requests that have no reply yet, for their replies.
  private var types: [UInt32: UInt32] = [:]
  /// A device that is removed, and when the request for that is answered at the latest.
  private struct Removal {
    let number: UInt32
    let device: UInt32
    let departure: Departure
    let due: UInt64
  }
  private var removals: [Removal] = []
  private var ending: Ending?

  /// - Parameters:
  ///   - socket: the connection; it is the server's from now on.
  ///   - version: of the program, for the VMM's log.
  ///   - metrics: counts what happens; nil where nobody wants to know.
  ///   - log: takes a line.
  public init(
    socket: PacketSocket, host: any HelperHost = KernelHost(), limits: HelperLimits = HelperLimits(), version: String,
    metrics: HelperMetrics? = nil, log: @escaping (LogLevel, String) -> Void = { _, _ in }
  ) throws(SystemError) {
    self.socket = socket
    self.metrics = metrics
    self.log = log
    mailbox = try HelperMailbox()
    driver = try HelperDriver(host: host, limits: limits, mailbox: mailbox)
    session = HelperSession(limits: limits, version: version)
  }

  /// Ends it from another thread, for a signal; takes the reason, for the log.
  public var terminate: @Sendable (String) -> Void { { [mailbox] in mailbox.put(.terminated($0)) } }

  /// Serves until the end. What is under way then ends with the process, which is to exit; until it has, no device is asked to
  /// change its state any more: see ``DeviceGate``.
  public func run() -> Ending {
    var buffer = [UInt8](repeating: 0, count: HelperPacket.maximumSize)
    while true {
      do throws(SystemError) {
        let due = min(newsDue, removals.map(\.due).min() ?? .max)
        let seen = try mailbox.bell.wait(
          for: socket.descriptor, writes: !outgoing.isEmpty, until: due == .max ? nil : due)
        // Also before a packet: what it is about has to be known.
        if !seen.isEmpty { takeLetters(isRung: seen.contains(.bell)) }
        if seen.contains(.input) { try takePacket(&buffer) }
        endRemovals()
        if ending != nil || newsDue <= monotonicMicroseconds() { sendNews() }
        metrics?.take(devices: session.order.count, hung: session.hung)
        try sendWaiting()
      } catch {
        // That the other end is gone is said where its hang-up is read, and in one line.
        if error.errno != EPIPE && error.errno != ECONNRESET { log(.warning, "\(error)") }
        takeLastPackets(&buffer)
      }
      // What a VMM that is gone, or was told to go, has not read is left.
      if let ending { return ending }
    }
  }

  // MARK: In

  private func takeLetters(isRung: Bool) {
    for letter in mailbox.take(isRung: isRung) {
      if case .finished(let number, _) = letter.input { removals.removeAll { $0.number == number } }
      act(session.handle(letter.input), letter.file)
    }
  }

  /// What a VMM sent before it went is still there, and its hang-up behind it.
  private func takeLastPackets(_ buffer: inout [UInt8]) {
    while ending == nil {
      guard let isMore = try? takePacket(&buffer), isMore else { return act(session.handle(.hungUp), nil) }
    }
  }

  /// - Returns: whether there was one, or the end of them.
  @discardableResult
  private func takePacket(_ buffer: inout [UInt8]) throws(SystemError) -> Bool {
    var span = buffer.mutableSpan
    switch try socket.receive(into: &span, waits: false) {
    case .nothing: return false
    case .hungUp: act(session.handle(.hungUp), nil)
    case .tooLong(let size): refuse("a packet of \(size) bytes is longer than any")
    case .tooManyDescriptors: refuse("a packet came with more than \(PacketSocket.maximumDescriptors) descriptors")
    case .descriptorsLost: refuse("there was no room for a packet's descriptors")
    case .packet(let size, let descriptors):
      take(buffer.span.extracting(0..<size), descriptors)
    }
    return true
  }

  private func refuse(_ text: String) {
    send(HelperReply.failure(HelperFailure(.badPacket, text)).packet(to: 0, number: 0), nil)
    end(1, text)
  }

  private func take(_ bytes: Span<UInt8>, _ descriptors: consuming ReceivedDescriptors) {
    let packet: HelperCall
    do throws(HelperPacketError) {
      packet = try HelperPacket.request(bytes, descriptors: descriptors.count)
    } catch {
      send(HelperReply.failure(error.failure).packet(to: error.type, number: error.number), nil)
      if error.hangsUp { end(1, error.failure.text) }
      return
    }
    types[packet.number] = packet.type
    let actions = session.handle(.request(packet.number, packet.request))
    var carried: ReceivedDescriptors? = descriptors
    for action in actions {
      if case .perform(packet.number, let task) = action, let own = carried.take() {
        begin(packet.number, task, own)
      } else {
        act([action], nil)
      }
    }
  }

  // MARK: Out

  private func act(_ actions: [HelperSession.Action], _ file: SentFile?) {
    for action in actions {
      switch action {
      case .reply(let number, let reply):
        let type = types.removeValue(forKey: number) ?? 0
        send(reply.packet(to: type, number: number), file)
      case .event(let event): tell(event)
      case .perform(let number, let task): begin(number, task, ReceivedDescriptors())
      case .order(let order): driver.order(order)
      case .interrupt(let reason): driver.interrupt(reason)
      case .declareDead(let id): driver.declareDead(id)
      case .forgetBlobs: driver.forgetBlobs()
      case .letGo: driver.letGo()
      case .end(let status, let words): end(status, words)
      }
    }
  }

  private func begin(_ number: UInt32, _ task: HelperSession.Task, _ descriptors: consuming ReceivedDescriptors) {
    guard case .release(let id) = task else { return driver.perform(number, task, descriptors) }
    // Its number may be another device's afterwards.
    sendNews()
    guard let departure = driver.release(id, number) else { return }
    removals.append(
      Removal(number: number, device: id, departure: departure, due: monotonicMicroseconds() + Self.removalLimit))
  }

  /// Devices that can't be let go of, because a call on them does not come back.
  private func endRemovals() {
    if removals.isEmpty { return }
    let now = monotonicMicroseconds()
    for removal in removals where removal.due <= now && removal.departure.giveUp() {
      let failure = HelperFailure(
        .hung, device: removal.device,
        "a call on device \(removal.device) has not come back: it is let go of when that does")
      act(session.handle(.finished(removal.number, .failure(failure))), nil)
    }
    removals.removeAll { $0.due <= now }
  }

  private func tell(_ event: HelperEvent) {
    metrics?.take(event) { session.status }
    if outgoing.count + news.count > Self.mostWaiting / 2 {
      switch event {
      case .progress, .decision, .throttle: return
      default: break
      }
    }
    if let line = event.line { log(event.level, line) }
    switch event {
    case .progress, .arc(_, _, _, error: nil, _):
      // A guest stands still while its devices make their arcs, and waits for what comes behind these.
      guard makeRoom() else { break }
      if news.isEmpty { newsDue = monotonicMicroseconds() + Self.newsDelay }
      news.append(event)
    case .arc, .reset, .hung, .failed:
      // What went before it comes before it.
      sendNews()
      send(event.packet, nil)
    // To an older VMM it would be nothing that it knows; the log has it.
    case .tag where !session.knowsTags: break
    default: send(event.packet, nil)
    }
  }

  private func sendNews() {
    outgoing += news.map { Outgoing(bytes: $0.packet, file: nil) }
    news = []
    newsDue = .max
  }

  private func send(_ bytes: [UInt8], _ file: SentFile?) {
    if makeRoom() { outgoing.append(Outgoing(bytes: bytes, file: file)) }
  }

  /// - Returns: whether one more packet may wait. Where none may, that is the end.
  private func makeRoom() -> Bool {
    if outgoing.count + news.count < Self.mostWaiting { return true }
    (outgoing, news, newsDue) = ([], [], .max)
    end(1, "the VMM does not read what it is told: it counts as gone")
    return false
  }

  private func sendWaiting() throws(SystemError) {
    var sent = 0
    defer {
      // Mostly it is all of them, and then nothing has to move up.
      if sent == outgoing.count { outgoing.removeAll(keepingCapacity: true) } else { outgoing.removeFirst(sent) }
    }
    while sent < outgoing.count {
      let packet = outgoing[sent]
      let isOut =
        if let file = packet.file {
          try socket.send(packet.bytes.span, with: file.descriptor, waits: false)
        } else {
          try socket.send(packet.bytes.span, waits: false)
        }
      guard isOut else { return }
      sent += 1
    }
  }

  private func end(_ status: Int32, _ words: String?) {
    driver.gate.shut()
    if ending == nil { ending = Ending(status: status, words: words) }
  }
}

extension HelperEvent {
  /// How much its line matters.
  var level: LogLevel {
    switch self {
    case .failed: .error
    case .hung, .reset, .linkLost, .tracker, .tag: .warning
    case .phase, .progress, .arc, .slow, .decision, .ready, .throttle, .loaded: .info
    }
  }

  /// A line for the log, where the event is worth one.
  var line: String? {
    switch self {
    case .phase(let phase): "phase: \(phase.name)"
    case .progress, .arc: nil
    case .hung(let device, _, let waited, let text): "device \(device) hangs: \(text), for \(waited / 1000) ms"
    case .slow(_, _, let waited, let text): "\(text) has taken \(waited / 1000) ms so far"
    case .reset(let device, _, let text): "device \(device): \(text)"
    case .decision(let estimate), .ready(let estimate): estimate.decision.map { "\($0)" }
    case .throttle(_, let text), .linkLost(_, let text): text
    case .tracker(let device, _, let text), .tag(let device, _, let text): "device \(device): \(text)"
    case .loaded: "everything is loaded"
    case .failed(let failure): "failed: \(failure.text)"
    }
  }
}
