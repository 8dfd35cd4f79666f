// SPDX-License-Identifier: Apache-2.0
internal import Glibc
public import LinuxIO
internal import Synchronization

/// Metrics on their way out: into a file every few seconds, and to whoever connects to a socket. It has one thread, which asks
/// for a page whenever it needs one; nobody else does anything for it.
public final class MetricsService: Sendable {
  /// Microseconds in which somebody who has connected has to have said what he wants, or wants the bare text; and has to have
  /// read it.
  private static let patience: UInt64 = 1_000_000

  private let places: MetricsPlaces
  private let interval: UInt64
  private let page: @Sendable () -> String
  private let log: @Sendable (String) -> Void
  private let ending: Cancellation
  private let thread = Mutex<BlockingThread?>(nil)

  /// Begins.
  /// - Parameters:
  ///   - interval: microseconds between two pages in the file.
  ///   - page: asked on the service's own thread.
  ///   - log: told of what goes wrong, on that thread.
  public init(
    _ places: MetricsPlaces, interval: UInt64 = 5_000_000, page: @escaping @Sendable () -> String,
    log: @escaping @Sendable (String) -> Void
  ) throws(SystemError) {
    self.places = places
    self.interval = interval
    self.page = page
    self.log = log
    ending = try Cancellation()
    let thread = try BlockingThread(name: "metrics") { [self] in run() }
    self.thread.withLock { $0 = thread }
  }

  /// Ends it. Until then it lives by itself; its places go when it does.
  public func end() {
    ending.cancel()
    let thread = thread.withLock { thread in
      defer { thread = nil }
      return thread
    }
    thread?.join()
  }

  private func run() {
    var next = monotonicMicroseconds()
    var written: String?
    var complaint: SystemError?
    while true {
      let due = places.file == nil ? nil : next
      do throws(SystemError) {
        if let socket = try arrival(until: due) {
          serve(socket)
          continue
        }
      } catch {
        // Somebody comes too early for a process that has no descriptors left: not at once again.
        if error.errno == ECANCELED { break }
        log("\(error)")
        if !ending.pause(until: monotonicMicroseconds() + Self.patience) { break }
        continue
      }
      next = monotonicMicroseconds() + interval
      let text = page()
      // A file that says the same as before is left alone, unless it is another's or nobody's by now.
      if text == written, places.file?.isThere ?? true { continue }
      do throws(SystemError) {
        try places.file?.write(text)
        written = text
        complaint = nil
      } catch {
        if error != complaint { log("\(error)") }
        complaint = error
      }
    }
  }

  /// Waits for somebody who connects.
  /// - Returns: nil when the file is due.
  private func arrival(until due: UInt64?) throws(SystemError) -> Descriptor? {
    switch places.listener {
    case .some(let listener):
      do throws(SystemError) {
        return try listener.acceptAnybody(until: due, ending)
      } catch {
        if error.errno == ETIMEDOUT { return nil }
        throw error
      }
    case .none:
      guard let due else { throw SystemError("waiting for", "nothing", errno: ECANCELED) }
      if !ending.pause(until: due) { throw SystemError("waiting for", "the next page", errno: ECANCELED) }
      return nil
    }
  }

  /// Answers somebody. Who takes too long is hung up on.
  private func serve(_ socket: borrowing Descriptor) {
    let limit = monotonicMicroseconds() + Self.patience
    var conversation = ScrapeConversation()
    var buffer = [UInt8](repeating: 0, count: 1024)
    do throws(SystemError) {
      try socket.setNonBlocking()
      while true {
        do throws(SystemError) {
          try ending.wait(for: .read, on: socket, until: limit)
        } catch {
          if error.errno == ETIMEDOUT { break }
          throw error
        }
        var span = buffer.mutableSpan
        guard let count = try Self.read(socket, into: &span) else { continue }
        if count == 0 || conversation.take(buffer.span.extracting(0..<count)) { break }
      }
      let answer = conversation.answer(page)
      var sent = 0
      while sent < answer.count {
        try ending.wait(for: .write, on: socket, until: monotonicMicroseconds() + Self.patience)
        sent += try Self.write(answer.span.extracting(sent..<answer.count), to: socket)
      }
      socket.endSending()
    } catch {
      // It has gone, or does not read.
    }
  }

  /// - Returns: nil where there is nothing after all.
  private static func read(
    _ socket: borrowing Descriptor, into buffer: inout MutableSpan<UInt8>
  ) throws(SystemError) -> Int? {
    do throws(SystemError) { return try socket.read(into: &buffer) } catch {
      if error.errno == EAGAIN { return nil }
      throw error
    }
  }

  private static func write(_ bytes: Span<UInt8>, to socket: borrowing Descriptor) throws(SystemError) -> Int {
    do throws(SystemError) { return try socket.write(bytes) } catch {
      if error.errno == EAGAIN { return 0 }
      throw error
    }
  }
}
