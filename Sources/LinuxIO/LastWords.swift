// SPDX-License-Identifier: Apache-2.0
internal import CVFIO

/// What a thread says should the program trap in it.
public enum LastWords {
  /// Writes a text to standard error if the calling thread runs into a trap from now on, before the program ends by it.
  /// - Parameter text: up to 255 bytes of it count; an empty one says nothing.
  public static func set(_ text: String) { unsafe vf_set_last_words(text) }
}
